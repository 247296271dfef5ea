"""What the networks of the space ``blocks`` cost: the sum of a fixed part and of one candidate of each choice.

Parameters and mult-adds are counted on the candidates, latency comes from a table that was measured on them
(`mobilenext.search.cost_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobilenext.errors import UsageError
from mobilenext.models.block_plan import BlockPlan
from mobilenext.search.knapsack import best_choice

if TYPE_CHECKING:
    import paddle

    from mobilenext.models.counting import Size

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
        self.check_budget(budget)
        scale = _SCALES[self.unit]
        limit = budget if scale == 1 else float(round(budget * scale))
        chosen = best_choice(values, self.choices, limit - self.fixed)
        assert chosen is not None
        return chosen

    def check_budget(self, budget: float) -> None:
        """Raise UsageError where the smallest network of the space costs more."""
        # As it is printed, rounded up, so that the number in the message is a budget that can be asked for.
        smallest = math.ceil(1000 * self.smallest - 1e-6) / 1000
        if budget < self.smallest - 1e-9 * abs(budget):
            raise UsageError(
                f"the budget is {budget:g} {self.unit} of {self.kind}, but the smallest network of this space has "
                f"{smallest:.3f} {self.unit}; expected a budget from there up"
            )


def count_costs(plan: Sequence[BlockPlan], kind: str, image_size: int, num_classes: int) -> Costs:
    """Count the parameters or the mult-adds of each candidate of a search over the blocks of `plan`.

    Args:
        plan: the published one, whose candidates are those of `find_candidates`.
        kind: parameters or mult_adds.
        image_size: pixels, of one image.
        num_classes: outputs of the classifier.
    """
    from mobilenext.models.block_search import find_candidates
    from mobilenext.models.counting import count
    from mobilenext.models.sandglass import MobileNeXt

    sides = block_sizes(plan, image_size)
    choices = tuple(
        np.array([float(getattr(size_of(block, sides[place.block]), kind)) for block in place.plans])
        for place in find_candidates(plan)
    )
    whole = float(getattr(count(MobileNeXt(plan=plan, num_classes=num_classes), image_size), kind))
    return Costs(kind, whole - sum(float(costs[0]) for costs in choices), choices)


@cache
def size_of(block: BlockPlan | None, side: int) -> Size:
    """Count one block on a map with sides of `side`; nothing where it is left out."""
    from mobilenext.models.counting import Size, count
    from mobilenext.models.sandglass import Sandglass

    return Size(0, 0, 0) if block is None else count(Sandglass(block), side, channels=block.in_channels)


def block_sizes(plan: Sequence[BlockPlan], image_size: int) -> list[int]:
    """Return the side of the map that each block of a plan takes."""
    sides, side = [], -(-image_size // 2)  # behind the stem; with its padding a stride of 2 halves and rounds up
    for block in plan:
        sides.append(side)
        side = -(-side // block.stride)
    return sides
