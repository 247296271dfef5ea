"""The space of cells (DARTS): a network repeats a normal cell, and has two of a reduction cell.

Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055). Costs and sizes are those of the
final network (36 channels and 20 cells in the form cifar), whatever the size of the super-network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F

from mobilenext.arrays import Floats
from mobilenext.errors import UsageError
from mobilenext.machine.environment import free_memory_mib
from mobilenext.models.architecture import LARGEST_CIFAR_IMAGE, Architecture
from mobilenext.models.cell import CellShape, cell_shapes
from mobilenext.models.cell_operators import build_operator
from mobilenext.models.cell_search import CellSearchNetwork
from mobilenext.models.counting import count
from mobilenext.models.genotype import EDGES, INPUTS, NODES, NONE, Genotype, read_genotype
from mobilenext.search.recipes import operators_of
from mobilenext.search.space import SUPER_NETWORK, Space, SpaceRequest, Summary

COUNTED_SIZE = {"cifar": 32, "imagenet": 224}  # pixels of the images that mult-adds are counted for
TABLES = {"alphas_normal": False, "alphas_reduce": True}  # by name: whether they are those of the reduction cells
MILLION = 1e6
COLLAPSED = 2  # skip connections in the normal cell that speak for a collapse (Liang et al. 2019, arXiv 1909.06035)


class Cost(NamedTuple):
    """Parameters and mult-adds of a layer or of a network."""

    parameters: float = 0
    mult_adds: float = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.mult_adds + other.mult_adds)


class CellSpace(Space):
    """The cells that can be made of some operators; see `mobilenext.search.space.Space`."""

    beginning = "their random beginning"

    def __init__(self, request: SpaceRequest) -> None:
        """Prepare to search cells of the operators of the request's recipe.

        Raises:
            UsageError: a cost that cells do not have, or images whose sides cannot be halved twice.
        """
        recipe, self._request = request.recipe, request
        if request.model != SUPER_NETWORK and not request.first_weights:
            raise UsageError(f"{request.model} given to a search of cells, which begins without a model; expected none")
        self._operators = operators_of(recipe.operators)
        if recipe.cost_measure == "latency":
            raise UsageError(
                "cost is latency, which is measured of blocks only; of cells expected parameters or mult_adds"
            )
        self.unit = {"parameters": "M parameters", "mult_adds": "M mult-adds"}[recipe.cost_measure]
        self._form = "cifar" if request.image_size <= LARGEST_CIFAR_IMAGE else "imagenet"
        # Cells halve their maps twice; in the form imagenet they see a quarter of the image's side.
        multiple = 4 if self._form == "cifar" else 16
        if request.image_size % multiple:
            raise UsageError(
                f"image_size is {request.image_size}; expected a multiple of {multiple}, since cells halve maps"
            )
        self._costs = _FinalCosts(self._open(_any_genotype()), request.num_classes)

    def network(self, weights: Path | None = None) -> CellSearchNetwork:
        """Return the super-network, freshly initialized.

        Raises:
            UsageError: weights, or a network that needs more memory than is free.
        """
        if weights is not None:
            raise UsageError(f"{weights} given to a search of cells, which begins without weights; expected none")
        recipe = self._request.recipe
        _check_room(self._operators, recipe.channels, recipe.cells)
        return CellSearchNetwork(
            self._operators, recipe.channels, recipe.cells, self._request.num_classes, form=self._form
        )

    def expected_cost(self, alphas: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Return the expected cost of the final network, in millions of parameters or of mult-adds.

        A node keeps two of its edges, so each of its 2 + i edges counts 2 / (2 + i) times what its operators cost on
        average; `none` is no operator of the final network, and so none of these.
        """
        field = self._request.recipe.cost_measure
        total = paddle.full([], getattr(self._costs.fixed, field) / MILLION, "float64")
        for name, reduction in TABLES.items():
            table = alphas[name]
            kept = [place for place, operator in enumerate(self._operators) if operator != NONE]
            costs = self._costs.table(tuple(self._operators[place] for place in kept), reduction, field)
            chances = F.softmax(paddle.index_select(table, paddle.to_tensor(kept), axis=1), axis=-1)  # [14, operators]
            total = total + (chances.astype("float64") * paddle.to_tensor(costs, "float64")).sum()
        return total

    def discretize(self, alphas: Mapping[str, Floats], budget: float | None = None) -> Architecture:
        """Return the cells that these alphas stand for, by the rule of DARTS; a budget does not change it."""
        del budget
        return self._found(read_genotype(alphas["alphas_normal"], alphas["alphas_reduce"], self._operators))

    def random(self, generator: np.random.Generator, like: Architecture | None = None) -> Architecture:
        """Return cells that alphas drawn from N(0, 1) stand for."""
        del like
        normal, reduce = generator.standard_normal((2, EDGES, len(self._operators)))
        return self._found(read_genotype(normal, reduce, self._operators))

    def summary(self, architecture: Architecture) -> Summary:
        """Return the size of the final network, the counts of operators in both cells, and a warning of a collapse."""
        genotype = architecture.genotype
        assert genotype is not None
        cost = self._costs.of(genotype)
        names = [name for name, _ in (*genotype.normal, *genotype.reduce)]
        counts = {
            "skip": names.count("skip_connect"),
            "pool": sum("_pool_" in name for name in names),
            "sandglass": sum(name.startswith("sandglass") for name in names),
        }
        skips = sum(name == "skip_connect" for name, _ in genotype.normal)
        warning = ""
        if skips >= COLLAPSED:
            warning = (
                f"{skips} skip connections in the normal cell: the search may be collapsing; a higher beta or "
                "stop_at_skips=2 are remedies"
            )
        return Summary(int(cost.parameters), int(cost.mult_adds), counts, warning=warning, collapsed=skips)

    def budgets(self) -> Sequence[float | None]:
        """Return no budget: that of cells is a term of the loss only."""
        return (None,)

    def _open(self, genotype: Genotype) -> Architecture:
        return Architecture(
            space="cell", genotype=genotype, operators=self._operators, seed=self._request.seed,
            data_digest=self._request.data_digest,
        ).completed(self._request.image_size)  # fmt: skip

    def _found(self, genotype: Genotype) -> Architecture:
        cost = self._costs.of(genotype)
        return dataclasses.replace(self._open(genotype), numbers=cost._asdict())


def _check_room(operators: Sequence[str], channels: int, cells: int) -> None:
    """Raise UsageError where the weights of a super-network alone would need more memory than is free.

    What a step needs for its maps is measured later, on the network itself.
    """
    wide = 256  # channels of an operator that is counted; those of others go by the square of theirs
    state = paddle.get_rng_state()  # the weights of the super-network are drawn by the run's seed alone
    of_edge = sum(_operator_cost(name, wide, 1, 1).parameters for name in operators) / wide**2
    paddle.set_rng_state(state)
    weights = EDGES * of_edge * sum(shape.channels**2 for shape in cell_shapes("cifar", channels, cells))
    needed, free = 3 * 4 * weights / 2**20, free_memory_mib()  # with gradients and momentum, in float32
    if free is not None and needed > free:
        raise UsageError(
            f"a super-network of {channels} channels and {cells} cells has about {weights / 1e6:,.0f} M weights, which "
            f"need {needed:,.0f} MiB in a search, but {free:,.0f} MiB are free; expected a smaller one: --set "
            "channels=N, --set cells=N"
        )


def _any_genotype() -> Genotype:
    """Return cells whose operators do not matter, for the sizes of the final network."""
    edges = [("skip_connect", source) for _ in range(NODES) for source in range(INPUTS)]
    return Genotype(edges, edges)


class _FinalCosts:
    """What the parts of a final network cost: its operators by their place, and all the rest."""

    def __init__(self, final: Architecture, num_classes: int) -> None:
        """Count for the form, channels and number of cells of `final`."""
        form, channels, cells = final.form, final.channels, final.cells
        assert form is not None
        assert channels is not None
        assert cells is not None
        stem, side = _stem_cost(form, channels)
        self._places: list[tuple[CellShape, int]] = []  # of each cell, and the side of the maps that its nodes take
        self.fixed = stem
        for shape in cell_shapes(form, channels, cells):
            self._places.append((shape, side))
            for before in shape.before:  # a 1x1 convolution and a batch norm, also where it halves the side
                weights = before * shape.channels
                self.fixed = self.fixed.plus(Cost(weights + 2 * shape.channels, weights * side**2))
            side = -(-side // 2) if shape.reduction else side
        features = NODES * self._places[-1][0].channels
        self.fixed = self.fixed.plus(Cost((features + 1) * num_classes, features * num_classes))

    def of(self, genotype: Genotype) -> Cost:
        """Return the cost of the network of these cells."""
        total = self.fixed
        for shape, side in self._places:
            for name, source in genotype.reduce if shape.reduction else genotype.normal:
                total = total.plus(_at(name, shape, side, source))
        return total

    @cache  # noqa: B019 - a space lives as long as the process
    def table(self, operators: tuple[str, ...], reduction: bool, field: str) -> tuple[tuple[float, ...], ...]:
        """Return the expected part [14, operators] of each operator, in millions, over all cells of one kind."""
        places = [place for place in self._places if place[0].reduction == reduction]
        return tuple(
            tuple(
                INPUTS / (INPUTS + node) * sum(getattr(_at(name, *place, source), field) for place in places) / MILLION
                for name in operators
            )
            for node in range(NODES)
            for source in range(INPUTS + node)
        )


def _at(name: str, shape: CellShape, side: int, source: int) -> Cost:
    """Return the cost of an operator on an edge from `source` in a cell whose inputs have this side."""
    if not shape.reduction:
        return _operator_cost(name, shape.channels, 1, side)
    stride = 2 if source < INPUTS else 1
    return _operator_cost(name, shape.channels, stride, side if stride == 2 else -(-side // 2))


@cache
def _operator_cost(name: str, channels: int, stride: int, side: int) -> Cost:
    """Return the cost of an operator on a map [channels, side, side], counted on its layers."""
    with paddle.no_grad():
        size = count(build_operator(name, channels, stride, affine=True), side, channels=channels)
    return Cost(size.parameters, size.mult_adds)


def _stem_cost(form: str, channels: int) -> tuple[Cost, int]:
    """Return the cost of a network's stem, and the side of the maps that its first cell works on."""
    side = COUNTED_SIZE[form]
    if form == "cifar":
        layers = [(3, 3 * channels, side)]
    else:  # three 3x3 convolutions of stride 2
        half = channels // 2
        layers = [(3, half, side // 2), (half, channels, side // 4), (channels, channels, side // 8)]
    cost = Cost()
    for inputs, outputs, of_side in layers:
        weights = 9 * inputs * outputs
        cost = cost.plus(Cost(weights + 2 * outputs, weights * of_side**2))
    return cost, layers[-1][2]
