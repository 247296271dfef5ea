"""The space ``blocks``: a MobileNeXt of a width whose blocks are chosen anew.

The super-network is that of `mobilenext.models.block_search`. Alphas are discretized by an exact knapsack: of all
networks within the budget the one whose choices have the largest product of probabilities. The result is an ordinary
MobileNeXt, and one search gives one for each budget.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle

from mobilenext.arrays import Floats
from mobilenext.errors import UsageError
from mobilenext.models.architecture import Architecture
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.block_search import BlockSearchNetwork, find_candidates
from mobilenext.models.cards import known_model
from mobilenext.models.sandglass import MobileNeXt, plan_blocks
from mobilenext.search.cost import Costs, count_costs
from mobilenext.search.cost_table import CostTable, describe_additivity, table_of
from mobilenext.search.measuring import measure_plans, not_measurable
from mobilenext.search.space import SUPER_NETWORK, Space, SpaceRequest, Summary
from mobilenext.weights.pretrained import create_model

if TYPE_CHECKING:
    from mobilenext.models.network import Network

log = logging.getLogger(__name__)

NEAR = 0.02  # how much the cost of a random architecture may differ from that of the one it stands beside
MOST_DRAWS = 10_000
Numbers = npt.NDArray[np.float64]


class BlocksSpace(Space):
    """The networks that a search over the blocks of one model chooses from; see `mobilenext.search.space.Space`."""

    beginning = "equal alphas, which prefer nothing"

    def __init__(self, request: SpaceRequest) -> None:
        """Count the candidates, or read what they cost from the table.

        Raises:
            UsageError: no model or another one, a cost table that does not fit, or a budget below the smallest network.
            DataError: a broken cost table.
        """
        self._request, recipe = request, request.recipe
        self._plan = _published_plan(request.model)
        self._candidates = find_candidates(self._plan)
        self._sizes = {
            kind: count_costs(self._plan, kind, request.image_size, request.num_classes)
            for kind in ("parameters", "mult_adds")
        }
        self.table = self._read_table()
        kind = recipe.cost_measure
        self._costs = self.table.costs(self._plan, request.num_classes) if self.table else self._sizes[kind]
        self._beginning: BlockSearchNetwork | None = None  # with the first weights of the search
        # The choices that an architecture was discretized from, which its blocks do not tell where like ones follow.
        self._discretized: dict[tuple[BlockPlan, ...], tuple[int, ...]] = {}
        self.unit = "ms" if kind == "latency" else f"M {kind.replace('_', '-')}"
        for budget in recipe.budget:
            self._costs.check_budget(budget)

    def _read_table(self) -> CostTable | None:
        request, kind = self._request, self._request.recipe.cost_measure
        if request.cost_table is None:
            if kind == "latency":
                raise UsageError(
                    "the cost is latency, and nothing says what the blocks take here; expected --costs FILE, which "
                    f"`mobilenext search --measure-costs onnxruntime --model {request.model} "
                    f"--image-size {request.image_size} -o FILE` measures"
                )
            return None
        if kind != "latency":
            raise UsageError(f"a cost table of latencies was given, but the cost is {kind}; expected --cost latency")
        table = table_of(request.cost_table)
        table.check(
            model=request.model, identity_divisor=request.identity_divisor, image_size=request.image_size
        )  # fmt: skip
        return table

    def network(self, weights: Path | None = None) -> BlockSearchNetwork:
        """Return the super-network; all candidates begin with what the weights have of them."""
        request = self._request
        first = request.first_weights if weights else {}
        published = create_model(
            request.model, weights=weights, num_classes=request.num_classes, identity_divisor=request.identity_divisor,
            classes=first.get("classes"), use=first.get("kind"), section=first.get("section"),
        )  # fmt: skip
        assert isinstance(published, MobileNeXt)
        network = BlockSearchNetwork(published)
        network.train()
        return network

    def first_weights(self, network: Network) -> Mapping[str, Floats]:
        """Return the weights of the published network in a super-network that has not been trained."""
        if not self._request.first_weights:
            return {}
        assert isinstance(network, BlockSearchNetwork)
        published = network.network([0] * len(self._candidates))
        return {name: tensor.numpy() for name, tensor in published.state_dict().items()}

    def initial_network(
        self, first: Mapping[str, Floats], alphas: Mapping[str, Floats], budget: float | None = None
    ) -> MobileNeXt | None:
        """Return the found network; its published blocks have the first weights, the others begin as candidates do."""
        if not first:
            return None
        if self._beginning is None:  # the same for all budgets and checkpoints
            paddle.seed(self._request.seed)
            published = MobileNeXt(
                plan=self._plan, num_classes=self._request.num_classes, identity_divisor=self._request.identity_divisor
            )
            published.set_state_dict(dict(first))
            self._beginning = BlockSearchNetwork(published)
        return self._beginning.network(self._choose(alphas, budget))

    def describe(self) -> str:
        """Return a sentence on how many networks the space has."""
        sizes = [len(place.plans) for place in self._candidates]
        dropped = sum(place.dropped for place in self._candidates)
        factors = " x ".join(f"{size}^{sizes.count(size)}" for size in sorted(set(sizes), reverse=True))
        return (
            f"{sum(sizes)} candidates in {len(sizes)} places ({dropped} equal ones were dropped): {factors} = "
            f"{float(np.prod(np.array(sizes, float))):.2g} networks"
        )

    def expected_cost(self, alphas: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Return the mean cost of networks that are drawn from the alphas."""
        return self._costs.expected(alphas)

    def discretize(self, alphas: Mapping[str, Floats], budget: float | None = None) -> Architecture:
        """Return the likeliest network within the budget; without one, that of the largest alphas."""
        chosen = self._choose(alphas, budget)
        architecture = self._found(chosen)
        self._discretized[architecture.blocks] = chosen
        return architecture

    def in_use(self, network: Network, architecture: Architecture) -> contextlib.AbstractContextManager[None]:
        """Let the super-network run the candidates of one architecture inside, in evaluation mode."""
        assert isinstance(network, BlockSearchNetwork)
        return network.running(self._discretized.get(architecture.blocks) or self.chosen_of(architecture.blocks))

    def _choose(self, alphas: Mapping[str, Floats], budget: float | None = None) -> tuple[int, ...]:
        """Return the position of the chosen candidate in each place."""
        if budget is None:
            return tuple(int(np.argmax(row)) for row in alphas.values())
        return self._costs.choose([_log_softmax(row) for row in alphas.values()], budget)

    def random(self, generator: np.random.Generator, like: Architecture | None = None) -> Architecture:
        """Return a random network; with `like`, one whose cost differs from that network's by up to 2 %.

        Every network of such a cost is about equally likely: candidates are drawn with probabilities that fall
        exponentially with their costs, at the rate where the mean cost is the one wanted, and so the probability of a
        network depends on its cost alone. Where no draw comes near enough, the nearest of all draws is returned.
        """
        sizes = [len(row) for row in self._costs.choices]
        if like is None:
            return self._found([int(generator.integers(size)) for size in sizes])
        wanted = self._costs.total(self.chosen_of(like.blocks))
        probabilities = _with_mean(self._costs, wanted)
        nearest: tuple[float, list[int]] | None = None
        for _ in range(MOST_DRAWS):
            chosen = [int(generator.choice(len(row), p=row)) for row in probabilities]
            distance = abs(self._costs.total(chosen) / wanted - 1)
            if nearest is None or distance < nearest[0]:
                nearest = (distance, chosen)
            if distance <= NEAR:
                break
        assert nearest is not None
        return self._found(nearest[1])

    def summary(self, architecture: Architecture) -> Summary:
        """Return the size of the network, its latency where that is the cost, and how often what was chosen."""
        chosen = self.chosen_of(architecture.blocks)
        plans = [place.plans[index] for place, index in zip(self._candidates, chosen, strict=True)]
        published = [place.plans[0] for place in self._candidates]
        wider = [
            block.hidden_channels - own.hidden_channels
            for block, own in zip(plans, published, strict=True)
            if block and own
        ]
        counts = {
            "sandglass": len(architecture.blocks),
            "left_out": sum(block is None for block in plans),
            "kernel_5": sum(block is not None and block.kernel_size == 5 for block in plans),
            "narrower": sum(difference < 0 for difference in wider),
            "wider": sum(difference > 0 for difference in wider),
        }
        sizes = {kind: round(1e6 * costs.total(chosen)) for kind, costs in self._sizes.items()}
        cost = self._costs.total(chosen) if self.table else None
        return Summary(sizes["parameters"], sizes["mult_adds"], counts, cost)

    def budgets(self) -> Sequence[float | None]:
        """Return the budgets of the recipe."""
        return self._request.recipe.budget or (None,)

    def measured(self, architectures: Sequence[Architecture]) -> Sequence[Mapping[str, float]]:
        """Return the latency of whole networks beside the sum of their parts, where it can be measured here."""
        if self.table is None:
            return ()
        if reason := not_measurable(self.table):
            log.warning("whole networks are not measured beside the sum of their parts: %s", reason)
            return ()
        plans = [architecture.blocks for architecture in architectures]
        rows = []
        for plan, measured_ms in zip(plans, measure_plans(self.table, plans, self._request.num_classes), strict=True):
            sum_ms = self._costs.total(self.chosen_of(plan))
            log.info("%d blocks: %s", len(plan), describe_additivity(measured_ms, sum_ms))
            rows.append({"measured_ms": round(measured_ms, 5), "sum_ms": round(sum_ms, 5)})
        return rows

    def chosen_of(self, plan: Sequence[BlockPlan]) -> tuple[int, ...]:
        """Return the chosen candidate of each place of a network of this space.

        Where one of two like blocks is left out, it is the later one, which costs the same.

        Raises:
            UsageError: a network of another space.
        """
        places = {place.block: place for place in self._candidates}
        blocks, chosen = list(plan), []
        misfit = UsageError(f"these {len(plan)} blocks are no network of a search over {self._request.model}")
        for index, published in enumerate(self._plan):
            candidates: tuple[BlockPlan | None, ...] = places[index].plans if index in places else (published,)
            block = blocks.pop(0) if blocks and blocks[0] in candidates else None
            if block not in candidates:
                raise misfit
            if index in places:
                chosen.append(candidates.index(block))
        if blocks:
            raise misfit
        return tuple(chosen)

    def _found(self, chosen: Sequence[int]) -> Architecture:
        places = {place.block: place.plans[index] for place, index in zip(self._candidates, chosen, strict=True)}
        plans = [places.get(index, block) for index, block in enumerate(self._plan)]
        numbers = {kind: float(round(1e6 * costs.total(chosen))) for kind, costs in self._sizes.items()}
        if self.table:
            numbers["latency_ms"] = round(self._costs.total(chosen), 5)
        request = self._request
        return Architecture(
            space="blocks", blocks=tuple(block for block in plans if block is not None),
            identity_divisor=request.identity_divisor, base=request.model, seed=request.seed,
            data_digest=request.data_digest, cost_table_digest=self._costs.digest, numbers=numbers,
        )  # fmt: skip


def _published_plan(model: str) -> tuple[BlockPlan, ...]:
    """Return the blocks of a model."""
    if model == SUPER_NETWORK:
        raise UsageError(
            "the space blocks begins with a MobileNeXt; expected --weights FILE or a name such as "
            "mobilenext_x1_0.in1k, or --model NAME without weights"
        )
    card = known_model(model)  # None: that of an architecture
    if card is None or card.family != "mobilenext":
        raise UsageError(
            f"{model} does not fit the space blocks, whose networks are MobileNeXts of a width; expected "
            "mobilenext_x0_35 to mobilenext_x1_4 or their weights"
        )
    return plan_blocks(card.arguments["width"])


def _log_softmax(row: Floats) -> Numbers:
    values = np.asarray(row, np.float64) - np.max(row)
    return np.asarray(values - np.log(np.exp(values).sum()))


def _with_mean(costs: Costs, wanted: float) -> list[Numbers]:
    """Return probabilities that fall exponentially with the cost, with the mean cost of the networks `wanted`."""
    span = max(sum(float(np.ptp(row)) for row in costs.choices), 1e-12)
    rows = [(row - row.min()) / span for row in costs.choices]  # the dearest network has a sum of 1

    def probabilities(rate: float) -> list[Numbers]:
        return [np.exp(_log_softmax(-rate * row)) for row in rows]

    cheapest = costs.smallest
    dearest = costs.total([int(np.argmax(row)) for row in costs.choices])
    target = (wanted - cheapest) / max(dearest - cheapest, 1e-12)
    low, high = -1e4, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        mean = sum(float(chances @ row) for chances, row in zip(probabilities(middle), rows, strict=True))
        low, high = (middle, high) if mean > target else (low, middle)
    return probabilities((low + high) / 2)
