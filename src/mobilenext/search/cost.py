"""What the networks of the space ``blocks`` cost: the sum of a fixed part and of one candidate of each choice.

Parameters and mult-adds are counted on the candidates, latency comes from a table that was measured on them
(`mobilenext.search.cost_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobilenext.errors import UsageError
from mobilenext.search.knapsack import best_choice

if TYPE_CHECKING:
    import paddle

    from mobilenext.models.block_search import BlockSearchNetwork

Numbers = npt.NDArray[np.float64]
UNITS = {"parameters": "M", "mult_adds": "M", "latency": "ms"}  # of budgets and of what is shown
_SCALES = {"M": 1e6, "ms": 1.0}  # counts stay whole numbers, so that their sums are exact


@dataclass(frozen=True)
class Costs:
    """The costs of a super-network's candidates: parameters, mult-adds, or milliseconds."""

    kind: str  # one of UNITS
    fixed: float  # of all that no choice decides
    choices: tuple[Numbers, ...]  # for each choice the cost of each candidate [K]
    digest: str | None = None  # of the table they come from

    def __post_init__(self) -> None:
        if self.kind not in UNITS:
            raise UsageError(f"cost is {self.kind!r}; expected {', '.join(UNITS)}")

    @property
    def unit(self) -> str:
        """Return the unit of budgets and of what is shown: millions, or milliseconds."""
        return UNITS[self.kind]

    @property
    def smallest(self) -> float:
        """Return the cost of the smallest network of the space, in the unit."""
        return self.total([int(np.argmin(costs)) for costs in self.choices])

    def total(self, chosen: Sequence[int]) -> float:
        """Return the cost of the network with the `chosen` candidate of each choice, in the unit."""
        sum_of_chosen = math.fsum(costs[index] for costs, index in zip(self.choices, chosen, strict=True))
        return (self.fixed + sum_of_chosen) / _SCALES[self.unit]

    def expected(self, alphas: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Return the mean cost of networks that are drawn with the probabilities softmax(alphas), in the unit.

        Args:
            alphas: a row [K] for each choice, in their order.

        Returns:
            A number [] that is differentiable by the alphas.
        """
        import paddle
        import paddle.nn.functional as F

        scale = _SCALES[self.unit]
        means = [
            (F.softmax(row) * paddle.to_tensor(costs / scale, row.dtype)).sum()
            for row, costs in zip(alphas.values(), self.choices, strict=True)
        ]
        return paddle.add_n(means) + self.fixed / scale

    def choose(self, values: Sequence[Numbers], budget: float) -> tuple[int, ...]:
        """Return the candidates with the largest sum of `values` that cost no more than the budget.

        Args:
            values: of each choice's candidates [K], such as log probabilities.
            budget: in the unit.

        Raises:
            UsageError: the smallest network costs more.
        """
        scale = _SCALES[self.unit]
        limit = budget if scale == 1 else float(round(budget * scale))
        chosen = best_choice(values, self.choices, limit - self.fixed)
        if chosen is None:
            smallest = math.ceil(1000 * self.smallest) / 1000
            raise UsageError(
                f"the budget is {budget:g} {self.unit} of {self.kind}, but the smallest network of this space has "
                f"{smallest:.3f} {self.unit}; expected a budget from there up"
            )
        return chosen


def count_costs(network: BlockSearchNetwork, kind: str, image_size: int) -> Costs:
    """Count the parameters or the mult-adds of each candidate, for one image of `image_size` pixels."""
    from mobilenext.models.counting import count

    sides = block_sizes(network, image_size)

    def cost(block: object, side: int, channels: int) -> float:
        return float(getattr(count(block, side, channels=channels), kind)) if block is not None else 0.0

    choices = tuple(
        np.array(
            [
                cost(choice.block(index), sides[place.block], network.published_plan[place.block].in_channels)
                for index in range(len(place.plans))
            ]
        )
        for place, choice in zip(network.candidates, network.choices, strict=True)
    )
    published = [0] * len(choices)
    whole = cost(network.network(published), image_size, 3)
    return Costs(kind, whole - sum(float(costs[0]) for costs in choices), choices)


def block_sizes(network: BlockSearchNetwork, image_size: int) -> list[int]:
    """Return the side of the map that each block of the published plan takes."""
    sides, side = [], -(-image_size // 2)  # behind the stem; with its padding a stride of 2 halves and rounds up
    for block in network.published_plan:
        sides.append(side)
        side = -(-side // block.stride)
    return sides
