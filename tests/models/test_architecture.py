"""The record of a searched network: equal after its file, and bounded where the file is a stranger's."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.errors import DataError, UsageError
from mobilenext.models.architecture import Architecture, read_architecture, write_architecture
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.genotype import GENOTYPES

DIGEST = "0123456789abcdef" * 4
CELL = Architecture(
    space="cell",
    genotype=GENOTYPES["darts_v2"],
    channels=8,
    cells=5,
    operators=("none", "skip_connect", "sep_conv_3x3"),
    seed=3,
    data_digest=DIGEST,
    numbers={"parameters": np.int64(3_349_342), "loss": 0.5},
)
BLOCKS = Architecture(
    space="blocks",
    blocks=(
        BlockPlan(8, 4, 16, 2, first_depthwise=True, last_depthwise=True, shortcut=False),
        BlockPlan(16, 24, 16, 1, first_depthwise=True, last_depthwise=True, shortcut=True, kernel_size=5),
    ),
    identity_divisor=2,
    base="mobilenext_x0_35",
    cost_table_digest=DIGEST,
)


@pytest.mark.parametrize("architecture", [CELL, BLOCKS])
def test_a_file_gives_an_equal_record(architecture: Architecture, tmp_path: Path) -> None:
    write_architecture(tmp_path / "runs" / "architecture.json", architecture)
    copy = read_architecture(tmp_path / "runs" / "architecture.json")
    assert copy == architecture == pickle.loads(pickle.dumps(architecture))
    assert hash(copy) == hash(architecture)
    assert copy.name == architecture.name
    assert copy.name.startswith(architecture.space)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["architecture.json"]


def test_a_file_that_says_no_more_than_the_cells_is_enough() -> None:
    cells = {"normal": [["skip_connect", 0]] * 8, "reduce": [["skip_connect", 1]] * 8}
    architecture = Architecture.from_dict({"schema": 1, "space": "cell", **cells})
    assert (architecture.form, architecture.channels, architecture.cells, architecture.seed) == (None,) * 4


@pytest.mark.parametrize(
    ("pixels", "sizes"), [(16, ("cifar", 36, 20)), (32, ("cifar", 36, 20)), (33, ("imagenet", 48, 14))]
)
def test_the_images_decide_sizes_that_are_open(pixels: int, sizes: tuple[str, int, int]) -> None:
    open_sizes = CELL.replace(channels=None, cells=None)
    whole = open_sizes.completed(pixels)
    assert (whole.form, whole.channels, whole.cells) == sizes
    assert whole.genotype == CELL.genotype
    assert whole.seed == CELL.seed
    assert (CELL.completed(pixels).channels, CELL.completed(pixels).cells) == (8, 5)
    assert whole.is_network_of(open_sizes)
    assert not whole.is_network_of(CELL)
    assert whole.name != open_sizes.name
    assert BLOCKS.completed(pixels) is BLOCKS


def test_the_name_is_that_of_the_network_and_not_of_its_search() -> None:
    assert CELL.name == CELL.replace(seed=9, numbers={}, operators=()).name
    assert len({CELL.name, CELL.replace(channels=10).name, CELL.replace(genotype=GENOTYPES["darts_v1"]).name}) == 3
    assert BLOCKS.name != BLOCKS.replace(identity_divisor=1).name


def changed(architecture: Architecture, **fields: Any) -> dict[str, Any]:
    return {**architecture.to_dict(), **fields}


def edge(operator: Any, source: Any) -> list[list[Any]]:
    return [["skip_connect", 0], ["skip_connect", 1], [operator, source], *[["skip_connect", 0]] * 5]


PLAN = BLOCKS.to_dict()["blocks"][0]
BROKEN = [
    (changed(CELL, schema=2), "schema is 2; expected 1: a later version"),
    (changed(CELL, schema=None), "schema is None; expected a whole number"),
    (changed(CELL, space="stages"), "space is 'stages'; expected 'cell' or 'blocks'"),
    (changed(CELL, blocks=[PLAN]), "the space cell has no field 'blocks'"),
    (changed(BLOCKS, form="cifar"), "the space blocks has no field 'form'"),
    (
        changed(CELL, normal=edge("sep_conv_3x4", 0)),
        "normal[2] names the operator 'sep_conv_3x4', which does not exist",
    ),
    (changed(CELL, normal=edge("sep_conv_3x4", 0)), "did you mean 'sep_conv_3x3'?"),
    (changed(CELL, reduce=edge("none", 0)), "reduce[2] names the operator 'none', which does not exist"),
    (changed(CELL, normal=edge("skip_connect", 3)), "edge 2 of the normal cell comes from 3"),
    (changed(CELL, normal=edge("skip_connect", -1)), "normal[2][1] is -1; expected a whole number from 0 to 4"),
    (changed(CELL, normal=edge(4, 0)), "normal[2][0] is 4; expected text"),
    (changed(CELL, normal=[["skip_connect"]] * 8), "normal[0] is ['skip_connect']; expected [operator, input]"),
    (changed(CELL, normal=edge("skip_connect", 0)[:7]), "normal is a list of 7; expected a list of 8"),
    (changed(CELL, reduce={}), "reduce is {}; expected a list of 8"),
    (changed(CELL, form="imagent"), "form is 'imagent'; expected 'cifar' or 'imagenet'"),
    (changed(CELL, channels=True), "channels is True; expected a whole number"),
    (changed(CELL, channels=7), "channels is 7; expected an even number"),
    (changed(CELL, channels=100_000), "channels is 100000; expected a whole number from 2 to 512"),
    (changed(CELL, cells=101), "cells is 101; expected a whole number from 1 to 100"),
    (changed(CELL, channels=512, cells=100), "512 channels and 100 cells are too large a network"),
    (changed(CELL, channels=None, cells=100), "open channels and 100 cells are too large a network"),
    (changed(CELL, numbers={"loss": "low"}), "numbers.loss is 'low'; expected a finite number"),
    (changed(CELL, numbers={str(n): n for n in range(65)}), "numbers has 65 entries; expected up to 64"),
    (changed(CELL, data_digest="../secret"), "data_digest is '../secret'; expected a sha256"),
    (changed(CELL, seed=-1), "seed is -1; expected a whole number from 0 up"),
    (changed(BLOCKS, blocks=[]), "blocks has 0 entries; expected 1 to 200"),
    (changed(BLOCKS, blocks=[{**PLAN, "kernel_size": 4}]), "expected an odd kernel_size"),
    (changed(BLOCKS, blocks=[{**PLAN, "stride": 3}]), "blocks[0].stride is 3; expected a whole number from 1 to 2"),
    (changed(BLOCKS, blocks=[{**PLAN, "padding": 3}]), "blocks[0] has the field 'padding'; expected in_channels"),
    (changed(BLOCKS, blocks=[PLAN, PLAN]), "blocks[1] takes 8 channels, but gets 16 from before it"),
    (changed(BLOCKS, blocks=[{**PLAN, "out_channels": 10**6}]), "from 1 to 4096"),
    (
        changed(BLOCKS, blocks=[{**PLAN, "in_channels": 16, "hidden_channels": 4096, "stride": 1}] * 200),
        f"{200 * (32 * 4096 + 2 * 16 * 9):,} weights",
    ),
    (changed(BLOCKS, identity_divisor=5), "identity_divisor is 5; expected 1, 2, 3, 4, 6"),
]


@pytest.mark.parametrize(("values", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_a_broken_file_says_what_is_wrong(values: dict[str, Any], problem: str, tmp_path: Path) -> None:
    (tmp_path / "architecture.json").write_text(json.dumps(values))
    with pytest.raises(DataError) as caught:
        read_architecture(tmp_path / "architecture.json")
    assert str(caught.value).startswith(f"{tmp_path}/architecture.json ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cut off"),
        (b"[1]", "expected a record"),
        (b"\x80\x04}", "not UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b" " * (1 << 20) + b"{}", "more than 1,048,576 bytes"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_architecture(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"is missing; expected the architecture\.json of a search"):
        read_architecture(tmp_path / "b.json")


def test_a_record_cannot_be_made_of_what_no_network_has() -> None:
    with pytest.raises(UsageError, match=r"the space blocks has no channels; that is of cell"):
        BLOCKS.replace(channels=8)
    with pytest.raises(UsageError, match=r"an architecture has no 'channel'; did you mean 'channels'\?"):
        CELL.replace(channel=8)
    with pytest.raises(UsageError, match=r"normal is \[\]; expected a list of 8"):
        Architecture(space="cell")
