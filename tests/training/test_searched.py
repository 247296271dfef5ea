"""A network that a search has found trains as any other: two heads, drop-path, clipped gradients, cutout, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

import mobilenext
from mobilenext.errors import DataError, UsageError
from mobilenext.models import Architecture, read_architecture, write_architecture
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.cell import CellNetwork
from mobilenext.models.genotype import GENOTYPES
from mobilenext.training import stepper
from mobilenext.training.plan import new_plan, resumed_plan
from mobilenext.weights.read import read_weights

SMALL = ("channels=2", "cells=2", "epochs=2", "batch_size=4")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("searched") / "data", np.random.default_rng(0)
    for part, images in (("train", 4), ("val", 1)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def cell(data: Path) -> Path:
    """The file of an architecture whose sizes are open."""
    architecture = Architecture(space="cell", genotype=GENOTYPES["darts_v2"], seed=3)
    write_architecture(data.parent / "cell.json", architecture)
    return data.parent / "cell.json"


def train(data: Path | None = None, **options: Any) -> dict[str, Any]:
    if data is not None:
        options = {"recipe": "darts-short", "settings": SMALL, **options}
    return mobilenext.train(data, workers=0, save_every=0, log_every=1, **options)


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


@pytest.fixture(scope="module")
def run(data: Path, cell: Path) -> Path:
    folder = data.parent / "run"
    train(data, model=str(cell), output=folder)
    return folder


def test_the_run_and_its_weights_carry_the_architecture(run: Path, cell: Path) -> None:
    expected = read_architecture(cell).replace(form="cifar", channels=2, cells=2)
    config = json.loads((run / "run.json").read_text())
    assert Architecture.from_dict(config["architecture"]) == expected
    assert config["model"] == expected.name
    weights = read_weights(run / "best.safetensors")
    assert (weights.model, weights.num_classes, weights.task) == (expected.name, 2, None)
    assert weights.architecture == expected.to_dict()
    # The second head is for training only.
    assert not any(name.startswith("auxiliary_head") for name in weights.tensors)
    network = mobilenext.create_model(weights=run / "best.safetensors")
    assert isinstance(network, CellNetwork)
    assert network(paddle.zeros([1, 3, 32, 32])).shape == [1, 2]


def test_killed_it_ends_alike(run: Path, data: Path, cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second epoch, in which operators are dropped, and without the file of the architecture."""
    folder, probabilities = data.parent / "resumed", []
    clip, drop = stepper.clip_gradients, CellNetwork.set_drop_path
    steps = iter(range(10))

    def stop(*arguments: Any) -> paddle.Tensor:
        if next(steps) == 3:
            raise KeyError("killed")
        return clip(*arguments)

    def note(network: CellNetwork, probability: float) -> None:
        probabilities.append(probability)
        drop(network, probability)

    copy = cell.with_name("copy.json")
    copy.write_bytes(cell.read_bytes())
    monkeypatch.setattr(CellNetwork, "set_drop_path", note)
    with monkeypatch.context() as patch:
        patch.setattr(stepper, "clip_gradients", stop)
        with pytest.raises(KeyError):
            train(data, model=str(copy), output=folder)
    copy.unlink()
    assert not (folder / "result.json").exists()
    train(resume=folder)
    assert probabilities == [0.0, 0.1 / 2, 0.1 / 2]
    assert rows(folder) == rows(run)
    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()


def test_the_network_of_blocks_begins_with_weights_of_the_same_blocks_only(data: Path, run: Path, cell: Path) -> None:
    first = BlockPlan(8, 4, 16, 2, first_depthwise=True, last_depthwise=True, shortcut=False, kernel_size=5)
    second = BlockPlan(16, 4, 16, 1, first_depthwise=True, last_depthwise=True, shortcut=True)
    architecture = Architecture(space="blocks", blocks=(first, second), identity_divisor=2)
    path, folder = data.parent / "blocks.json", data.parent / "blocks"
    write_architecture(path, architecture)
    settings = ("epochs=1", "batch_size=4", "image_size=32", "warmup_epochs=0")
    train(data, model=str(path), recipe="tiny", settings=settings, output=folder)
    weights = read_weights(folder / "last.safetensors", model=path)
    assert (weights.model, weights.identity_divisor) == (architecture.name, 2)
    assert new_plan(data, weights=folder / "last.safetensors").config["architecture"] == architecture.to_dict()
    with pytest.raises(DataError, match=r"which is not the network of the architecture cell_"):
        new_plan(data, model=str(cell), weights=folder / "last.safetensors")
    with pytest.raises(UsageError, match="channels set with weights, which are of cell_"):
        new_plan(data, model=str(cell), weights=run / "last.safetensors", settings=["channels=4"])


@pytest.mark.parametrize(
    ("model", "settings", "problem"),
    [
        ("cell", ["image_size=30"], "image_size is 30; expected 4 or more, a multiple of 4, the stride of cell_"),
        ("cell", ["image_size=40"], "image_size is 40; expected 32 or more, a multiple of 32, the stride of cell_"),
        ("cell", ["channels=x"], "--set channels=x: expected a whole number"),
        ("cell", ["channels=3"], "channels is 3; expected an even number"),
        ("cell", ["form=imagent"], "form is 'imagent'; expected 'cifar' or 'imagenet'"),
        ("mobilenext_x0_35", ["cells=3"], "cells is set, which only a network of cells has; mobilenext_x0_35 is none"),
    ],
)
def test_what_does_not_fit_the_network(data: Path, cell: Path, model: str, settings: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        new_plan(data, model=str(cell) if model == "cell" else model, recipe="darts-short", settings=settings)
    assert problem in str(caught.value)


@pytest.mark.parametrize("setting", ["drop_path=0", "auxiliary_weight=0"])
def test_a_network_without_cells_has_no_second_head_and_drops_no_path(data: Path, setting: str) -> None:
    with pytest.raises(UsageError, match=r"mobilenext_x0_35 has no .*expected 0: --set (drop_path|auxiliary_weight)=0"):
        train(data, model="mobilenext_x0_35", settings=[setting, "batch_size=4"], output=data.parent / "none")
    assert not (data.parent / "none").exists()


def test_a_damaged_record_of_a_run(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())
    for values, problem in (
        ({"model": "mobilenext_x1_0"}, "model is mobilenext_x1_0; expected cell_"),
        ({"architecture": {**config["architecture"], "cells": 1000}}, "cells is 1000; expected a whole number"),
        ({"architecture": []}, "architecture is "),
    ):
        with pytest.raises(DataError, match=problem):
            resumed_plan({**config, **values}, None, source=str(run / "run.json"))
