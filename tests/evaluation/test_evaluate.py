from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from in_process import Pool
from mobilenext import evaluate, predict
from mobilenext.classification.metrics import Prediction
from mobilenext.data import Preprocessing, open_dataset, pixels_of
from mobilenext.data.digits import write_digits
from mobilenext.errors import DatasetError, ImageError, OutputError, UsageError
from mobilenext.evaluation import collecting, run
from mobilenext.evaluation.latency import LATENCY_IMAGES, measure_latency, time_reading
from mobilenext.evaluation.outcome import write_outcome
from mobilenext.evaluation.pipeline import ChunkWork, predict_records
from mobilenext.machine.pool import WorkerPool
from mobilenext.runs.journal import JOURNAL, LOG, PREDICTIONS, RESULT, Journal
from mobilenext.runtime import AUTOMATIC
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import prepare_weights
from mobilenext.tasks import find_task
from mobilenext.weights.read import read_weights

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import World

SMALL: dict[str, Any] = {"image_size": 32, "crop_pct": 1.0}
pytestmark = pytest.mark.usefixtures("written_once")


def no_row(value: object, index: int) -> None:
    raise AssertionError("these journals are not resumed")


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / PREDICTIONS).read_bytes().splitlines()]


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One evaluation with the defaults: its folder and its result."""
    folder = tmp_path_factory.mktemp("evaluated")
    here = folder / "here"
    here.mkdir()
    before = Path.cwd()
    os.chdir(here)
    try:
        result = evaluate(world.data, weights=world.weights, output=folder / "out", preprocessing=SMALL)
    finally:
        os.chdir(before)
    assert list(here.iterdir()) == [], "an evaluation must not write where the user stands"
    return folder / "out", result


def test_the_counts_are_those_of_the_plain_computation(world: World, finished: tuple[Path, dict[str, Any]]) -> None:
    _, result = finished
    assert result["images"] == len(world.labels)
    assert result["correct_top1"] == world.correct(1)
    assert result["correct_top5"] == world.correct(5)
    assert 0 < world.correct(1) < world.correct(5) < len(world.labels), "else this test says little"
    assert result["top1_percent"] == pytest.approx(100 * world.correct(1) / len(world.labels), abs=5e-4)
    logits = world.logits.astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), world.labels]
    assert result["loss"] == pytest.approx(losses.mean(), abs=1e-3)
    for row in result["per_class"]:
        mine = [best for best, label in zip(world.ranking(), world.labels, strict=True) if label == row["class"]]
        assert row["images"] == len(mine)
        assert row["correct_top1"] == sum(best[0] == row["class"] for best in mine)
        assert row["correct_top5"] == sum(row["class"] in best[:5] for best in mine)


def test_the_predictions_are_those_of_the_plain_computation(
    world: World, finished: tuple[Path, dict[str, Any]]
) -> None:
    rows = predictions(finished[0])
    assert [row["index"] for row in rows] == list(range(len(world.labels)))
    assert [row["path"] for row in rows] == world.names
    assert [row["label"] for row in rows] == world.labels
    assert [row["top5"] for row in rows] == [best[:5] for best in world.ranking()]
    exponents = np.exp(world.logits.astype(np.float64))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    for row, expected in zip(rows, probabilities, strict=True):
        assert row["scores"] == pytest.approx([expected[number] for number in row["top5"]], abs=1e-3)


def test_the_result_can_be_recomputed_from_the_predictions(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, result = finished
    rows = predictions(folder)
    assert sum(row["top5"][0] == row["label"] for row in rows) == result["correct_top1"]
    assert sum(row["label"] in row["top5"] for row in rows) == result["correct_top5"]
    assert math.fsum(row["loss"] for row in rows) / len(rows) == pytest.approx(result["loss"], abs=1e-6)


def test_the_files_and_what_the_result_says(world: World, finished: tuple[Path, dict[str, Any]]) -> None:
    import hashlib

    folder, result = finished
    assert sorted(path.name for path in folder.iterdir()) == [PREDICTIONS, RESULT]
    assert json.loads((folder / RESULT).read_text()) == result
    assert result["model"] == "mobilenext_x0_35"
    assert result["num_classes"] == 8
    assert result["weights_sha256"] == hashlib.sha256(world.weights.read_bytes()).hexdigest()
    assert result["preprocessing"] == Preprocessing(**SMALL).to_dict()
    assert result["partial"] is False
    assert result["unreadable"] == 0
    assert result["comparison"] is None
    assert result["diagnosis"] == []
    assert result["runtime"] in AUTOMATIC, "whichever is installed here"
    assert (result["device"], result["batch_size"], result["precision"]) == ("cpu", 1, "fp32")
    latency = result["latency"]
    assert 0 < latency["p10"] <= latency["median"] <= latency["p90"]
    assert result["latency_ms"] == latency["median"]
    assert latency["runs"] == len(latency["samples_ms"])
    assert abs(statistics.median(latency["samples_ms"]) - latency["median"]) <= 0.001
    assert latency["preprocessing_median"] > 0
    assert result["images_per_second"] > 0
    for fact in ("python", "numpy", "pillow", "jpeg_library", "processor", "cores"):
        assert result["environment"][fact]


@pytest.mark.parametrize(
    ("runtime", "workers", "threads"),
    [pytest.param("auto", 1, 2, marks=pytest.mark.long), ("auto", 2, 1), ("paddle", 2, 1)],
)
def test_the_division_of_work_changes_nothing(
    runtime: str, workers: int, threads: int, world: World, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    expected = predictions(finished[0])
    records = open_dataset(world.data).records
    weights = read_weights(world.weights, preprocessing=SMALL)
    choice = Choice(runtime, threads=threads, workers=workers)
    spec = prepare_weights(weights, tmp_path, choice).spec
    with WorkerPool(workers, choice.environment()) as pool:
        for batch_size in (1, 7, 64):
            job = ChunkWork(spec, weights.preprocessing, batch_size, "stop", find_task().evaluation, {"num_classes": 8})
            rows = [row.to_dict() for chunk in predict_records(pool, job, records) for row in chunk]
            exact = ("index", "path", "label", "top5")
            assert [[row[key] for key in exact] for row in rows] == [[row[key] for key in exact] for row in expected]
            for row, other in zip(rows, expected, strict=True):
                assert row["scores"] == pytest.approx(other["scores"], abs=1e-3)


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is this process, for what does not depend on the division of work."""
    for module in (run, collecting):
        monkeypatch.setattr(module, "WorkerPool", Pool)


@pytest.mark.usefixtures("one_process")
def test_a_whole_evaluation_by_the_other_runtime(
    world: World, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_latency, "__defaults__", (1,))
    seen: list[tuple[int, int, int]] = []
    result = evaluate(
        world.data, model="mobilenext_x0_35", weights=world.weights, preprocessing=SMALL, runtime="paddle", workers=1,
        threads=2, batch_size=7, progress=lambda *numbers: seen.append(numbers),
    )  # fmt: skip
    assert (result["runtime"], result["engine"], result["threads"]) == ("paddle", "eager", 2)
    same = ("images", "correct_top1", "correct_top5", "top1_interval_percent", "per_class", "weights_sha256", "data")
    assert {key: result[key] for key in same} == {key: finished[1][key] for key in same}
    total = len(world.labels)
    assert seen[-1] == (total, total, world.correct(1))
    assert [done % 7 for done, *_ in seen[:-1]] == [0] * (len(seen) - 1)  # whole batches


def test_predict_equals_evaluate(world: World, finished: tuple[Path, dict[str, Any]]) -> None:
    expected = predictions(finished[0])
    files = [world.data / name for name in world.names[:6]]
    done: list[tuple[int, int]] = []
    rows = predict(
        files, weights=world.weights, preprocessing=SMALL, batch_size=4, progress=lambda *numbers: done.append(numbers)
    )
    assert done == [(4, 6), (6, 6)]
    assert [row["path"] for row in rows] == [str(path) for path in files]
    for row, other in zip(rows, expected[:6], strict=True):
        assert row["classes"] == other["top5"]
        assert row["scores"] == pytest.approx(other["scores"], abs=2e-6)


@pytest.fixture
def damaged(world: World, tmp_path: Path) -> Path:
    """The data set with one file that is no image and one that is too narrow to be resized."""
    data = tmp_path / "damaged"
    shutil.copytree(world.data, data)
    (data / world.names[5]).write_text("this is not an image")
    Image.new("RGB", (1, 100_000)).save(data / world.names[9])
    return data


@pytest.mark.usefixtures("one_process")
def test_unreadable_images(world: World, damaged: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"preprocessing": SMALL, "runtime": "paddle", "workers": 1}
    options: dict[str, Any] = {"weights": world.weights, "output": tmp_path / "out", **how}
    with pytest.raises(ImageError) as caught:
        evaluate(damaged, **options)
    message = str(caught.value)
    assert message.startswith("2 images cannot be read:\n")
    assert [message.count(str(damaged / world.names[index])) for index in (5, 9)] == [1, 1]
    assert "mobilenext check-data names all of them" in message
    assert message.endswith("or count them as wrong: --unreadable wrong")
    assert not (tmp_path / "out" / RESULT).exists()
    assert not (tmp_path / "out" / PREDICTIONS).exists()

    # Nothing was finished, so nothing hinders a new start in the same folder.
    result = evaluate(damaged, **options, unreadable="wrong")
    assert (result["images"], result["unreadable"]) == (len(world.labels), 2)
    assert result["latency"]["runs"] >= 50  # in a process of `warm` it would be fewer
    right = [best[0] == label for best, label in zip(world.ranking(), world.labels, strict=True)]
    assert result["correct_top1"] == sum(right) - right[5] - right[9]
    rows = predictions(tmp_path / "out")
    assert [row["index"] for row in rows if "error" in row] == [5, 9]
    for index in (5, 9):
        assert rows[index]["path"] == world.names[index]
        assert str(damaged / world.names[index]) in rows[index]["error"]
        assert (rows[index]["top5"], rows[index]["scores"], rows[index]["loss"]) == ([], [], None)
    others = [row for row in rows if "error" not in row]
    assert [row["top5"] for row in others] == [b[:5] for i, b in enumerate(world.ranking()) if i not in (5, 9)]


def test_reading_is_timed_with_images_that_can_be_read(world: World, damaged: Path) -> None:
    paths = [damaged / name for name in world.names]
    reading = time_reading(Preprocessing(**SMALL), paths)
    readable = [path for index, path in enumerate(paths) if index not in (5, 9)][:LATENCY_IMAGES]
    for path, size in zip(readable, reading.sizes, strict=True):
        with Image.open(path) as image:
            assert image.size == size
    assert len(reading.seconds) == len(readable)
    assert min(reading.seconds) > 0
    assert time_reading(Preprocessing(**SMALL), [paths[5]]) == ([], [])


def test_every_image_error_names_its_file(damaged: Path, world: World) -> None:
    for index in (5, 9):
        path = damaged / world.names[index]
        with pytest.raises(ImageError) as caught:
            pixels_of(path, Preprocessing(**SMALL))
        assert str(caught.value).count(str(path)) == 1


@pytest.mark.usefixtures("one_process")
def test_stopped_and_resumed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped here, between two chunks; killed: test_other_task.py, and the long test below."""
    monkeypatch.setattr(measure_latency, "__defaults__", (1,))
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    options: dict[str, Any] = {"weights": world.weights, "preprocessing": SMALL, "runtime": "paddle", "batch_size": 4}
    expected = evaluate(world.data, output=whole, workers=1, **options)
    assert expected["correct_top1"] == world.correct(1)

    def stop(done: int, total: int, correct: object) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(world.data, output=stopped, workers=1, progress=stop, **options)
    kept = (stopped / JOURNAL).read_bytes().count(b"\n") - 1
    assert 8 <= kept < len(world.labels)
    resume_and_compare(stopped, whole, kept, world, workers=1, **options)


@pytest.mark.long
def test_killed_and_resumed(
    long_world: World,
    start: Callable[..., subprocess.Popen[str]],
    wait_for_rows: Callable[[Path, int], None],
    tmp_path: Path,
) -> None:
    world, killed, whole = long_world, tmp_path / "killed", tmp_path / "whole"
    options: dict[str, Any] = {"weights": world.weights, "preprocessing": SMALL, "runtime": "paddle", "workers": 1}
    expected = evaluate(world.data, output=whole, **options)
    assert expected["correct_top1"] == world.correct(1)

    words = ["--weights", world.weights, "--image-size", 32, "--crop-pct", 1, "--runtime", "paddle", "--workers", 1]
    process = start("evaluate", world.data, "-o", killed, *words)
    wait_for_rows(killed / JOURNAL, 8)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = (killed / JOURNAL).read_bytes().count(b"\n") - 1
    assert 8 <= kept < len(world.labels), "it was not killed midway"
    assert sorted(path.name for path in killed.iterdir()) == [LOG, JOURNAL]
    resume_and_compare(killed, whole, kept, world, **options)


def resume_and_compare(folder: Path, whole: Path, kept: int, world: World, **options: Any) -> None:
    """Another preprocessing is refused; with the same one the evaluation ends as the whole one did."""
    before = (folder / JOURNAL).read_bytes()
    other = {**options, "preprocessing": {**SMALL, "interpolation": "bilinear"}}
    with pytest.raises(UsageError, match=r"preprocessing: .*'interpolation': 'bicubic'.*'interpolation': 'bilinear'"):
        evaluate(world.data, output=folder, resume=True, **other)
    assert (folder / JOURNAL).read_bytes() == before

    result = evaluate(world.data, output=folder, resume=True, **options)
    assert result["resumed_images"] == kept
    assert (folder / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
    expected = json.loads((whole / RESULT).read_text())
    same = ("images", "correct_top1", "correct_top5", "loss", "per_class", "setup_digest", "top1_interval_percent")
    assert {key: result[key] for key in same} == {key: expected[key] for key in same}
    assert not (folder / JOURNAL).exists()
    again = evaluate(world.data, output=folder, resume=True, **options)
    assert again == result, "a finished evaluation is given back as it is"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = "class \udcff"  # how Python shows the byte 0xff in a file's name
    journal = Journal(tmp_path, {}, no_row, resume=False)
    journal.add([Prediction(0, f"{folder}/ü.png", 0, (0,), (1.0,), 0.0)])
    write_outcome(tmp_path, journal, {"per_class": [{"name": folder}]})
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREDICTIONS, RESULT]
    assert predictions(tmp_path)[0]["path"] == f"{folder}/ü.png"
    assert json.loads((tmp_path / RESULT).read_bytes())["per_class"][0]["name"] == folder


def test_no_room_for_the_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, {}, no_row, resume=False)
    journal.add([Prediction(0, "a.png", 0, (0,), (1.0,), 0.0)])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"10 bytes are free, .* are needed; --resume finishes"):
        write_outcome(tmp_path, journal, {})
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


# --- what fails before anything is started


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"workers": True}, "workers is True"),
        ({"unreadable": "skip"}, "expected stop or wrong"),
        ({"resume": True}, "without an output folder"),
        ({"device": "tpu"}, "expected auto, cpu or gpu"),
        ({"limit": 0}, "limit is 0"),
        ({"model": "mobilenxt_x1_0"}, "did you mean 'mobilenext_x1_0'"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str, world: World, tmp_path: Path) -> None:
    weights = None if "model" in options else world.weights
    output = None if "resume" in options else tmp_path / "out"
    with pytest.raises(UsageError, match=message):
        evaluate(world.data, weights=weights, output=output, **options)
    assert not (tmp_path / "out").exists()


def test_a_keyword_that_is_none(world: World) -> None:
    with pytest.raises(TypeError, match=r"^evaluate\(\) got an unexpected keyword argument 'batchsize'$"):
        evaluate(world.data, weights=world.weights, batchsize=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^predict\(\) got an unexpected keyword argument 'workers'$"):
        predict(world.data, weights=world.weights, workers=2)  # type: ignore[call-arg]


# --- class folders


@pytest.mark.usefixtures("one_process")
def test_class_folders_of_some_classes(tmp_path: Path) -> None:
    """The bundled weights, 98 % right, know their digits by name; by their place, none of these would be right."""
    write_digits(tmp_path / "digits")
    for line in (tmp_path / "digits" / "val_list.txt").read_text().splitlines()[:40]:
        name, label = line.split()
        if label in "38":
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "digits" / "imgs" / name, tmp_path / "data" / label)
    (tmp_path / "data" / "5").mkdir()
    options: dict[str, Any] = {"model": "mobilenext_x0_35.digits", "runtime": "paddle", "workers": 1}
    result = evaluate(tmp_path / "data", output=tmp_path / "out", **options)

    assert result["top1_percent"] > 80
    assert [(row["class"], row["name"]) for row in result["per_class"]] == [(3, "3"), (8, "8")]
    assert result["class_names"] == list("0123456789")
    assert result["warnings"] == ["8 of 10 classes have no image: 0, 1, 2, 4, 5, 6, 7, 9"]
    (tmp_path / "data" / "3").rename(tmp_path / "data" / "4")
    with pytest.raises(UsageError, match="is of another evaluation"):
        evaluate(tmp_path / "data", output=tmp_path / "out", resume=True, **options)
    (tmp_path / "data" / "4").rename(tmp_path / "data" / "x")
    with pytest.raises(DatasetError, match="1 of 3 class folders are none of the 10 classes of the network: x/"):
        evaluate(tmp_path / "data", **options)
