"""A task that is not classification goes through the evaluation as it is: journal, resuming, result, prediction."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest
from PIL import Image

import brightness
from in_process import Pool
from mobilenext import evaluate, predict, tasks
from mobilenext.data import Preprocessing, pixels_of
from mobilenext.errors import DataError, UsageError
from mobilenext.evaluation import collecting, run
from mobilenext.json_files import flag
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT, read_predictions
from mobilenext.runs.result import read_result
from mobilenext.weights.pretrained import create_model
from mobilenext.weights.read import read_weights
from mobilenext.weights.write import write_weights
from warm import WarmCommands

if TYPE_CHECKING:
    from tests.conftest import World

SMALL: dict[str, Any] = {"image_size": 32, "crop_pct": 1.0}
HERE = "evaluation.test_other_task"  # this file as a program
HOW: dict[str, Any] = {"runtime": "paddle", "device": "cpu", "workers": 1, "batch_size": 5}


@pytest.fixture(scope="module", autouse=True)
def one_process(short_latency: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module in (run, collecting):
            patched.setattr(module, "WorkerPool", Pool)
        yield


@pytest.fixture(scope="module")
def weights(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "brightness.safetensors"
    stored = read_weights(world.weights, preprocessing=SMALL)
    classifier = {name for name in stored.tensors if name.startswith("classifier.")}
    tensors = {name: tensor[..., :1] if name in classifier else tensor for name, tensor in stored.tensors.items()}
    write_weights(replace(stored, tensors=tensors, num_classes=1, task=brightness.NAME), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightness.write_images(tmp_path_factory.mktemp("images"), [("val", 24)])


Apart = Callable[..., int]


@pytest.fixture(scope="module")
def apart(images: Path, weights: Path, warm_commands: WarmCommands) -> Apart:
    """Evaluate in a process of its own; its exit code. Bits are those of its settings, which this one may not have."""

    def carry_out(folder: Path, how: str) -> int:
        return warm_commands.run([str(images), str(weights), str(folder), how], program=HERE).returncode

    return carry_out


@pytest.fixture(scope="module")
def whole(images: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    evaluate(images, weights=weights, output=folder, **HOW)
    return folder


def main() -> int:
    """Evaluate whole or go on; or kill this process as soon as ten images are in the journal."""
    images, weights, folder, how = sys.argv[1:]
    for module in (run, collecting):
        module.WorkerPool = Pool  # type: ignore[assignment,misc]

    def progress(done: int, total: int, correct: object) -> None:
        assert correct is None
        if done >= 10 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    evaluate(images, weights=weights, output=folder, resume=how == "resumed", progress=progress, **HOW)
    return 0


def test_result_and_predictions(whole: Path, images: Path, weights: Path) -> None:
    result = read_result(whole / RESULT)
    rows = read_predictions(whole, result["task"])
    assert result["task"] == brightness.NAME
    assert not {"num_classes", "correct_top1", "per_class", "top1_percent"} & set(result)
    assert [row.path for row in rows] == [f"val/{number:02}.png" for number in range(24)]
    errors = [abs(row.answer - row.brightness) for row in rows]
    assert result["mean_error"] == pytest.approx(sum(errors) / len(errors), abs=1e-6)
    network, preprocessing = create_model("mobilenext_x0_35", weights=weights), Preprocessing(**SMALL)
    pixels = np.stack([pixels_of(images / row.path, preprocessing) for row in rows])
    expected = network.eval()(paddle.to_tensor(preprocessing.normalize(pixels)))[:, 0].tolist()
    assert [row.answer for row in rows] == pytest.approx(expected, abs=1e-4)


def test_a_killed_evaluation_is_resumed(whole: Path, apart: Apart, tmp_path: Path) -> None:
    killed, other = tmp_path / "killed", tmp_path / "other"
    assert apart(killed, "killed") == -signal.SIGKILL
    header, *rows = (killed / JOURNAL).read_bytes().splitlines()
    assert (len(rows), json.loads(header)["setup"]["task"]) == (10, brightness.NAME)
    assert apart(killed, "resumed") == 0
    result = read_result(killed / RESULT)
    assert result["resumed_images"] == 10
    assert apart(other, "whole") == 0
    assert (killed / PREDICTIONS).read_bytes() == (other / PREDICTIONS).read_bytes()
    assert result["setup_digest"] == read_result(whole / RESULT)["setup_digest"]


def test_a_result_of_an_unknown_task_is_refused(whole: Path, tmp_path: Path) -> None:
    result = json.loads((whole / RESULT).read_text()) | {"task": "brightnes"}
    (tmp_path / RESULT).write_text(json.dumps(result))
    with pytest.raises(DataError, match="unknown task 'brightnes'; did you mean 'brightness'"):
        read_result(tmp_path / RESULT)


def test_weights_of_an_unknown_task_are_refused_by_name(weights: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_weights(replace(read_weights(weights), task="brightnes"), path)
    with pytest.raises(DataError, match=r"other\.safetensors: unknown task 'brightnes'; did you mean 'brightness'"):
        evaluate(images, weights=path, **HOW)


def test_answers_for_single_images(whole: Path, images: Path, weights: Path) -> None:
    first, *_ = read_predictions(whole, brightness.NAME)
    (row,) = predict(images / first.path, weights=weights, runtime="paddle", device="cpu")
    answer = {"brightness": pytest.approx(first.answer, abs=1e-4)}
    assert row == {"path": str(images / first.path), "task": brightness.NAME, **answer}


def test_answers_know_the_sizes_of_the_images(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Width and height, upright, of those that can be read."""

    def answer(outputs: Any, network: Any, options: Any) -> list[dict[str, Any]]:
        return [{"size": size} for size in options["sizes"]]

    task = replace(brightness.TASK, evaluation=replace(brightness.EVALUATION, answer=answer))
    monkeypatch.setitem(tasks._REGISTERED, brightness.NAME, task)
    content = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6  # stored on its side
    Image.new("RGB", (40, 50)).save(content, "JPEG", exif=turned)
    images = [np.zeros((20, 30, 3), np.uint8), b"no image", content.getvalue()]
    rows = predict(images, weights=weights, runtime="paddle", device="cpu", batch_size=3)
    assert [row.get("size") for row in rows] == [(30, 20), None, (50, 40)]


def test_options_that_mean_nothing_to_a_task_are_refused(weights: Path, images: Path, world: World) -> None:
    with pytest.raises(UsageError, match="topk means nothing to a network for brightness; it takes no option of"):
        predict(images / "val/00.png", weights=weights, topk=3)
    with pytest.raises(UsageError, match="flip means nothing to a network for classification; it takes topk"):
        evaluate(images, weights=world.weights, flip=True)
    with pytest.raises(UsageError, match=r"topk is 2\.5; expected a whole number from 1 up"):
        predict(images / "val/00.png", weights=world.weights, topk=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"evaluate\(\) got an unexpected keyword argument 'topk'"):
        evaluate(images, weights=world.weights, topk=3)  # type: ignore[call-arg]


def mean_rows(outputs: Any, records: Any, facts: Any) -> Any:
    """Rows of the mean answer for images and mirrored images."""
    images, mirrored = outputs
    assert facts == {"flip": True}
    return brightness.rows(((images + mirrored) / 2,), records, facts)


def test_mirrored_images_and_options_in_the_setup(
    whole: Path, images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network sees each image twice; what was asked for is in the result, and another journal is refused."""

    def mean(outputs: Any, network: Any, options: Any) -> list[dict[str, Any]]:
        assert len(outputs) == (2 if options.get("flip") else 1)
        return [{"brightness": float(value)} for value in np.mean(outputs, axis=0)[:, 0]]

    evaluation = replace(
        brightness.EVALUATION, options={"flip": flag()}, facts=lambda network, options: dict(options), rows=mean_rows,
        answer=mean, files=lambda evaluated: {"extra.txt": str(len(evaluated.rows)).encode()},
    )  # fmt: skip
    monkeypatch.setitem(tasks._REGISTERED, brightness.NAME, replace(brightness.TASK, evaluation=evaluation))
    result = evaluate(images, weights=weights, output=tmp_path, flip=True, **HOW)
    assert (read_result(tmp_path / RESULT)["flip"], (tmp_path / "extra.txt").read_text()) == (True, "24")
    assert result["setup_digest"] != read_result(whole / RESULT)["setup_digest"]
    with pytest.raises(UsageError, match="is of another evaluation"):
        evaluate(images, weights=weights, output=tmp_path, resume=True, **HOW)
    first, *_ = read_predictions(tmp_path, brightness.NAME)
    pixels = pixels_of(images / first.path, Preprocessing(**SMALL))
    both = [{"weights": weights, "runtime": "paddle", "device": "cpu", "flip": turn} for turn in (False, True)]
    alone, mirrored = (predict([pixels, pixels[:, ::-1]], **options) for options in both)  # type: ignore[arg-type]
    assert alone[0]["brightness"] != alone[1]["brightness"]
    expected = pytest.approx((alone[0]["brightness"] + alone[1]["brightness"]) / 2, abs=1e-5)
    assert [row["brightness"] for row in mirrored] == [expected] * 2
    assert first.answer == expected


def test_workers_get_the_task_by_reference() -> None:
    assert pickle.loads(pickle.dumps(brightness.EVALUATION.rows)) is brightness.rows
