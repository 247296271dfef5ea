"""A task may bring its own stepper: here one with a second feeder, and a part of its own in the checkpoint."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import brightness
import mobilenext
from mobilenext import tasks
from mobilenext.errors import DataError, ImageError, Stopped
from mobilenext.job import Batch, DataRequest, Feed, Parts, Setup, Stepper
from mobilenext.training.feeding import Feeder
from mobilenext.training.loop import Loop
from mobilenext.training.stepper import GradientStep
from mobilenext.weights.read import read_weights

NAME = "brightness with an offset"
FILES = ("best.safetensors", "last.safetensors", "last_ema.safetensors")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")


class OffsetStep(Stepper):
    """Gradient descent, and after each step a running mean of other images, which becomes the head's bias."""

    def __init__(self, setup: Setup, network: Any, parts: Parts) -> None:
        self.gradient, self.network = GradientStep(setup, network), network
        self.feeder = Feeder(parts.val.records, setup.job, dataclasses.replace(setup.feed, batch_size=4), setup.pool)
        self.mean, self.steps = paddle.zeros([1]), 0

    def __call__(self, batch: Batch, global_step: int, rate: float) -> list[paddle.Tensor]:
        sums = self.gradient(batch, global_step, rate)
        epoch, step = divmod(global_step, self.feeder.steps_per_epoch)
        other = next(self.feeder.epoch(epoch, step))
        self.mean = 0.5 * self.mean + 0.5 * float(other.targets["brightness"].mean())
        self.steps += 1
        with paddle.no_grad():
            (bias,) = (value for value in self.network.parameters() if value.shape == [1])
            bias.set_value(self.mean)
        return sums

    def parts(self) -> Mapping[str, Any]:
        return {**self.gradient.parts(), "offset": {"mean": self.mean.numpy()}}

    def values(self) -> dict[str, Any] | None:
        return {"steps": self.steps}

    def restore(self, parts: Mapping[str, Any], values: Mapping[str, Any] | None) -> None:
        assert values
        self.gradient.restore(parts, None)
        self.mean, self.steps = paddle.to_tensor(parts["offset"]["mean"]), values["steps"]


class OffsetJob(brightness.BrightnessJob):
    def weights_fields(self, network: Any) -> Mapping[str, Any]:
        """Return a source that differs with each file of weights, as an architecture may, and replaces training's."""
        mean = sum(float(value.sum()) for value in network.parameters())
        return {**super().weights_fields(network), "model": MODEL, "source_name": f"sum {mean:.6f}"}


MODEL = "mobilenext_x0_35"
TASK = dataclasses.replace(
    brightness.TASK, name=NAME,
    load_training=lambda: dataclasses.replace(brightness.TRAINING, stepper=OffsetStep, job=OffsetJob),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def task() -> None:
    tasks.register(NAME, TASK)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightness.write_images(tmp_path_factory.mktemp("offset") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, task: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a stop."""
    folder = tmp_path_factory.mktemp("offset") / "whole"
    begin(data, folder)
    return folder


def begin(data: Path, folder: Path) -> None:
    mobilenext.train(
        data, output=folder, model=MODEL, task=NAME, settings=["epochs=2"], workers=0, log_every=1, save_every=0
    )


@pytest.fixture(scope="module")
def stopped(data: Path, task: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after its second step."""
    folder = tmp_path_factory.mktemp("offset") / "stopped"

    def stop(loop: Loop, stopping: int) -> None:
        if loop.position.global_step == 2:
            raise Stopped("here", 15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_stop_if_asked", stop)
        with pytest.raises(Stopped):
            begin(data, folder)
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


def test_its_part_is_in_the_checkpoint(whole: Path) -> None:
    with safe_open(whole / "checkpoint.safetensors", framework="numpy") as file:
        names = list(file.keys())
        assert {name.partition("/")[0] for name in names} == {"network", "average", "optimizer", "offset"}
        assert json.loads(file.metadata()["position"])["scaler"] == {"steps": 6}


def test_a_stopped_run_ends_alike(whole: Path, stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    mobilenext.train(resume=folder, workers=0, log_every=1, save_every=0)
    assert rows(folder) == rows(whole)
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_fields_of_the_weights_are_those_of_the_network(whole: Path) -> None:
    assert read_weights(whole / "last.safetensors").source_name.startswith("sum ")


@pytest.mark.parametrize("part", ["optimizer", "offset", "average"])
def test_a_checkpoint_without_a_part(part: str, stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    path = folder / "checkpoint.safetensors"
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        names = [name for name in list(file.keys()) if not name.startswith(f"{part}/")]
        tensors = {name: file.get_tensor(name) for name in names}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(DataError, match=rf"checkpoint\.safetensors is damaged: it has no {part}, without which"):
        mobilenext.train(resume=folder, workers=0)


def test_images_of_its_feeder_count(data: Path, tmp_path: Path) -> None:
    """Unreadable images of all feeders together, against one limit, and the seconds that they are waited for."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    parts = brightness.open_parts(DataRequest(root, 0))
    for part in ("train", "val"):
        (root / part / "03.png").write_bytes(b"broken")
    config = {"preprocessing": brightness.RECIPE.preprocessing.to_dict()}
    job = brightness.BrightnessJob(config, brightness.RECIPE, parts)
    feed = Feed(0, 4, max_unreadable=2)
    first, second = Feeder(parts.train.records, job, feed), Feeder(parts.val.records, job, feed)
    assert set(first.unreadable) == {"train/03.png", "val/03.png"}
    waited = sum(next(feeder.epoch(0)).reader_seconds for feeder in (first, second))
    assert 0 < feed.reading.seconds == pytest.approx(waited)
    feed = Feed(0, 4, max_unreadable=1)
    Feeder(parts.train.records, job, feed)
    with pytest.raises(ImageError, match="2 training images cannot be read"):
        Feeder(parts.val.records, job, feed)
