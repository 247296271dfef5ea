"""A task that is no classification trains by the same loop: see tests/brightness.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import brightness
import mobilenext
from mobilenext import tasks
from mobilenext.errors import DataError, UsageError, WeightsError
from mobilenext.models import MODELS, cards
from mobilenext.runs.training_run import read_run
from mobilenext.training.plan import new_plan
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights
from warm import WarmCommands, WarmProcess

MODEL = "mobilenext_x0_35"
WEIGHTS = ("best.safetensors", "last.safetensors", "last_ema.safetensors")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")
HERE = "training.test_other_task"  # this file as a program
Begin = Callable[..., WarmProcess]


def main() -> int:
    """Train: the task is registered with the import of `brightness`."""
    mobilenext.train(**json.loads(sys.argv[1]), log_every=1, save_every=0)
    return 0


@pytest.fixture(scope="module")
def begin(warm_commands: WarmCommands) -> Begin:
    """Start a process that registers the task and trains."""

    def start(**options: Any) -> WarmProcess:
        return warm_commands.start([json.dumps({"workers": 0} | options)], program=HERE)

    return start


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightness.write_images(tmp_path_factory.mktemp("brightness") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory, begin: Begin) -> Path:
    """A run without a stop, in its own process: MKL reads its settings when Paddle is imported, here perhaps before."""
    folder = tmp_path_factory.mktemp("brightness") / "whole"
    process = begin(data=str(data), output=str(folder), model=MODEL, task="brightness", workers=2)
    _, output = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return folder


def test_it_trains(whole: Path) -> None:
    run = read_run(whole)
    assert run.config["task"] == "brightness"
    assert run.config["epochs"] == len(run.epochs) == 3
    assert {"mean_error"} < set(run.steps[0])
    assert not any("top1" in name for row in (*run.steps, *run.epochs) for name in row)
    assert run.result
    assert run.result["task"] == "brightness"
    scores = {(row["val"][kind]["mean_error"], row["epoch"]) for row in run.epochs for kind in row["val"]}
    assert (run.result["best"]["mean_error"], run.result["best"]["epoch"]) == min(scores)
    assert (whole / "curves.png").is_file()
    best = read_weights(whole / "best.safetensors")
    assert (best.task, best.num_classes, best.labels) == ("brightness", 1, None)


def test_killed_it_ends_alike(whole: Path, data: Path, tmp_path: Path, begin: Begin) -> None:
    folder = tmp_path / "run"
    process = begin(data=str(data), output=str(folder), model=MODEL, task="brightness")
    deadline = time.monotonic() + 300
    while not ((folder / "log.jsonl").is_file() and len(rows(folder)) >= 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "result.json").exists()
    process = begin(resume=str(folder))
    _, output = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert rows(folder) == rows(whole)
    for name in WEIGHTS:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_finished_run_is_checked(whole: Path, tmp_path: Path) -> None:
    result = mobilenext.train(resume=whole)
    assert result == json.loads((whole / "result.json").read_text())
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text(json.dumps({**result, "best": {"epoch": 1}}))
    with pytest.raises(DataError, match=r"result\.json.*best\.images is missing"):
        mobilenext.train(resume=tmp_path / "run")


def test_weights_know_their_task(whole: Path, data: Path, tmp_path: Path) -> None:
    """A run from weights is of their task."""
    result = mobilenext.train(
        data, output=tmp_path / "run", weights=whole / "best.safetensors", settings=["epochs=1"], workers=0
    )
    assert (result["task"], result["recipe"]["name"]) == ("brightness", "small")


def test_a_backbone_is_of_another_task(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a task of its own begins with a classifier's weights: of another model, for other images."""
    card = dataclasses.replace(MODELS["mobilenext_x1_0"], name="bright", task="brightness")
    monkeypatch.setattr(cards, "MODELS", {**MODELS, "bright": card})
    weights = locate("mobilenext_x0_35.digits", None)
    plan = new_plan(data, model="bright", backbone=weights)
    assert plan.config["weights"]["part"] == "backbone"
    assert plan.config["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (plan.task.name, plan.config["model"], plan.weights) == ("brightness", "bright", weights)
    images, known = plan.recipe.preprocessing, read_weights(weights).preprocessing
    assert (images.image_size, images.crop_pct) == (32, 1.0)
    assert plan.config["preprocessing"] == {**images.to_dict(), "mean": list(known.mean), "std": list(known.std)}
    refused = "a network for classification; bright is one for brightness: its backbone .* --backbone FILE"
    with pytest.raises(WeightsError, match=refused):
        new_plan(data, model="bright", weights=weights)
    with pytest.raises(UsageError, match="weights and backbone at once"):
        new_plan(data, model="bright", weights=weights, backbone=weights)
    with pytest.raises(UsageError, match="classification has no backbone of its own"):
        new_plan(data, model="mobilenext_x0_35", backbone=weights)
    monkeypatch.setattr(cards, "MODELS", {**MODELS, "bright": dataclasses.replace(card, task=None)})
    with pytest.raises(WeightsError, match="holds mobilenext_x0_35"):
        new_plan(data, model="bright", weights=weights)


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown task 'brightnes'; did you mean 'brightness'"):
        mobilenext.train(data, output=tmp_path / "run", model=MODEL, task="brightnes")
    with pytest.raises(UsageError, match=r"tiny is a recipe for classification, .* brightness: small"):
        mobilenext.train(data, output=tmp_path / "run", model=MODEL, task="brightness", recipe="tiny")
    with pytest.raises(UsageError, match="label_smoothing is set, which only recipes for classification have"):
        mobilenext.train(data, output=tmp_path / "run", model=MODEL, task="brightness", settings=["label_smoothing=1"])
    with pytest.raises(TypeError, match=r"train\(\) got an unexpected keyword argument 'modle'"):
        mobilenext.train(data, output=tmp_path / "run", modle=MODEL)  # type: ignore[call-arg]


def test_a_run_that_validates_rarely_and_measures_a_step_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither changes what is trained."""
    training = dataclasses.replace(brightness.TRAINING, rehearses=True)
    for name, settings in (("plain", []), ("other", ["validate_every=2"])):
        with caplog.at_level("INFO"):
            mobilenext.train(data, output=tmp_path / name, model=MODEL, task="brightness", settings=settings, workers=0)
        # The second run is the one that measures a step.
        assert any("to expect:" in message for message in caplog.messages) == (name == "other")
        task = dataclasses.replace(brightness.TASK, load_training=lambda: training)
        monkeypatch.setitem(tasks._REGISTERED, "brightness", task)
    plain, other = (read_run(tmp_path / name) for name in ("plain", "other"))
    assert [row["val"] is not None for row in plain.epochs] == [True, True, True]
    assert [row["val"] is not None for row in other.epochs] == [False, True, True]  # the last epoch always
    assert plain.epochs[1]["val"] == other.epochs[1]["val"]
    assert plain.result
    assert other.result
    assert plain.result["final"] == other.result["final"]
    weights = [read_weights(tmp_path / name / "last_ema.safetensors").tensors for name in ("plain", "other")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
