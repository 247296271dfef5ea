"""The space of cells: sizes of final networks against those counted on the authors' code, and expected costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import paddle
import pytest

from mobilenext.errors import UsageError
from mobilenext.models.genotype import GENOTYPES, Genotype
from mobilenext.search.cell import CellSpace
from mobilenext.search.recipes import RECIPES
from mobilenext.search.space import SpaceRequest


def space_of(*, num_classes: int = 10, image_size: int = 32, **fields: Any) -> CellSpace:
    recipe = RECIPES["darts"].replace(**fields)
    return CellSpace(SpaceRequest(recipe, num_classes, image_size, 3, "0" * 64, "super_network"))


@pytest.fixture(scope="module")
def space() -> CellSpace:
    return space_of()


def genotype_of(operator: str) -> Genotype:
    edges = [(operator, source) for _ in range(4) for source in (0, 1)]
    return Genotype(edges, edges)


@pytest.mark.parametrize(
    ("name", "image_size", "num_classes", "parameters", "mult_adds"),
    [  # of the table in the paper's style: 36 channels, 20 cells; 48 channels, 14 cells, ImageNet
        ("darts_v1", 16, 10, 3_169_414, 501.0),
        ("darts_v2", 16, 10, 3_349_342, 528.4),
        ("pc_darts_cifar", 32, 10, 3_634_678, 556.7),
        ("darts_v2", 64, 1000, 4_718_752, 529.9),
    ],
)
def test_sizes_of_published_cells(
    name: str, image_size: int, num_classes: int, parameters: int, mult_adds: float
) -> None:
    space = space_of(num_classes=num_classes, image_size=image_size)
    final = dataclasses.replace(space.random(np.random.default_rng(0)), genotype=GENOTYPES[name])
    summary = space.summary(final)
    assert summary.parameters == parameters
    assert summary.mult_adds / 1e6 == pytest.approx(mult_adds, abs=0.05)


def test_counts_and_the_warning(space: CellSpace) -> None:
    final = dataclasses.replace(space.random(np.random.default_rng(0)), genotype=GENOTYPES["darts_v1"])
    summary = space.summary(final)
    assert summary.counts == {"skip": 6, "pool": 5, "sandglass": 0}
    assert summary.collapsed == 3
    assert summary.warning.startswith("3 skip connections in the normal cell")


def test_a_sure_choice_costs_what_its_network_costs(space: CellSpace) -> None:
    """Parameters of sep_conv_3x3 do not depend on the stride, so it does not matter which edges a node keeps."""
    tables = np.zeros((14, 8))
    tables[:, 4] = 60.0
    alphas = {name: paddle.to_tensor(tables, "float32") for name in ("alphas_normal", "alphas_reduce")}
    final = dataclasses.replace(space.random(np.random.default_rng(0)), genotype=genotype_of("sep_conv_3x3"))
    assert float(space.expected_cost(alphas)) == pytest.approx(space.summary(final).parameters / 1e6, rel=1e-6)


def test_none_costs_nothing_and_is_never_found(space: CellSpace) -> None:
    """So that its probability does not change what the final network is expected to cost."""
    values = np.random.default_rng(2).standard_normal((2, 14, 8))
    costs = []
    for none in (-3.0, 0.0, 5.0):
        values[:, :, 0] = none
        tables = zip(("alphas_normal", "alphas_reduce"), values, strict=True)
        alphas = {name: paddle.to_tensor(table) for name, table in tables}
        costs.append(float(space.expected_cost(alphas)))
    assert costs == pytest.approx(3 * costs[:1])


def test_the_gradient_of_the_cost(space: CellSpace) -> None:
    random = np.random.default_rng(1)
    values = {name: random.standard_normal((14, 8)) for name in ("alphas_normal", "alphas_reduce")}

    def cost(step: float) -> float:
        moved = {name: value.copy() for name, value in values.items()}
        moved["alphas_reduce"][5, 6] += step
        return float(space.expected_cost({name: paddle.to_tensor(value) for name, value in moved.items()}))

    alphas = {name: paddle.to_tensor(value, stop_gradient=False) for name, value in values.items()}
    space.expected_cost(alphas).backward()
    difference = (cost(1e-4) - cost(-1e-4)) / 2e-4
    assert float(alphas["alphas_reduce"].grad[5, 6]) == pytest.approx(difference, rel=1e-5)
    assert difference != 0


def test_what_is_found(space: CellSpace) -> None:
    random = np.random.default_rng(2)
    tables = {name: random.standard_normal((14, 8)).astype(np.float32) for name in ("alphas_normal", "alphas_reduce")}
    found = space.discretize(tables)
    assert (found.space, found.form, found.channels, found.cells, found.seed) == ("cell", "cifar", 36, 20, 3)
    assert found.numbers["parameters"] == space.summary(found).parameters


def test_random_cells_are_those_of_the_literature(space: CellSpace) -> None:
    """400 of them, counted in PyTorch, had 2.90 +- 0.48 million parameters."""
    sizes = [space.summary(space.random(np.random.default_rng(seed))).parameters / 1e6 for seed in range(100)]
    assert np.mean(sizes) == pytest.approx(2.90, abs=0.15)
    assert np.std(sizes) == pytest.approx(0.48, abs=0.12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operators": "darts,sandglas_3x3"}, "sandglas_3x3', which does not exist; did you mean 'sandglass_3x3'"),
        ({"operators": "darts,skip_connect"}, "has skip_connect twice"),
        ({"operators": "none"}, "has no operator"),
        ({"space": "cells"}, "space is 'cells'; expected cell or blocks; did you mean 'cell'"),
        ({"order": 3}, "order is 3; expected 1 or 2"),
        ({"drop_path": 0.2}, "drop_path is 0.2, which a super-network does not have"),
        ({"cost_weight": 1.0}, "cost_weight is 1 without a budget"),
        ({"order": 2, "nesterov": True}, "expected optimizer sgd and nesterov false"),
        ({"cost_measure": "latency"}, "cost is latency, which is measured of blocks only"),
        ({"image_size": 30}, "image_size is 30; expected a multiple of 4"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        space_of(image_size=fields.get("image_size", 32), **{n: v for n, v in fields.items() if n != "image_size"})


def test_a_super_network_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built: eight operators, 512 channels in the first cells and 100 cells have billions of weights."""
    monkeypatch.setattr("mobilenext.search.cell.free_memory_mib", lambda: 20_000.0)
    with pytest.raises(UsageError, match=r"512 channels and 100 cells has about [\d,]+ M weights.*20,000 MiB are free"):
        space_of(channels=512, cells=100).network()
