"""A detector that trains: killed it ends alike, two processes compute what one does, weights begin other runs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mobilenext
from boxed_pictures import write_pictures
from mobilenext.runs.training_run import read_run
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights
from warm import WarmCommands, WarmProcess

MODEL = "ssdlite320_mobilenext_x0_35"
WEIGHTS = ("best.safetensors", "last.safetensors", "last_ema.safetensors")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")
SETTINGS = ("image_size=224", "batch_size=4", "epochs=2", "validate_every=1", "warmup_epochs=0.5")
RECIPE = (
    "--model",
    MODEL,
    "--recipe",
    "ssdlite-small",
    "--form",
    "voc",
    "--train-split",
    "train",
    "--val-split",
    "val",
)
OFTEN = ("--log-every", "1", "--save-every", "0")

Begin = Callable[..., WarmProcess]


@pytest.fixture(scope="module")
def begin(warm_commands: WarmCommands) -> Begin:
    """Start a process that trains."""

    def start(
        *words: object, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> WarmProcess:
        of_settings = [word for setting in settings for word in ("--set", setting)]
        words_of_all = ["train", *map(str, words), *of_settings, *OFTEN]
        return warm_commands.start(words_of_all, environment=os.environ | (environment or {}))

    return start


def finished(process: WarmProcess) -> None:
    _, output = process.communicate(timeout=240)
    assert process.wait() == 0, output


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("boxes") / "data", {"train": 8, "val": 5})


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    path.write_bytes(locate("mobilenext_x0_35.tiny20", None).read_bytes())
    return path


@pytest.fixture(scope="module")
def whole(begin: Begin, data: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detection") / "whole"
    words = (data, *RECIPE, "--backbone", backbone, "-o", folder)
    finished(begin(*words, "--workers", 1, settings=SETTINGS))
    return folder


def test_the_run_says_what_it_is(whole: Path, backbone: Path) -> None:
    run = read_run(whole)
    form = run.config["architecture"]["form"]
    assert (run.config["task"], run.config["num_classes"], run.config["labels"]) == ("detection", 2, ["disc", "square"])
    # The priors of the recipe are those of 320 pixels.
    assert (form["loss"], form["image_size"], form["prior_sizes"][0]) == ("multibox", 224, [24 * 0.7, 140 * 0.7])
    assert (run.config["data"]["train_split"], run.config["data"]["val_split"]) == ("train", "val")
    first = run.config["weights"]
    assert (first["part"], first["sha256"]) == ("backbone", hashlib.sha256(backbone.read_bytes()).hexdigest())
    for row in run.steps:
        assert row["loss"] == pytest.approx(row["classification_loss"] + row["regression_loss"], abs=2e-5)
    best = read_weights(whole / "best.safetensors")
    assert (best.task, best.num_classes, best.labels) == ("detection", 2, ("disc", "square"))
    assert best.architecture == {"form": form}
    assert best.preprocessing.to_dict() == run.config["preprocessing"]
    assert (best.preprocessing.fit, best.preprocessing.mean[0]) == ("squash", 123 / 255)


def test_killed_it_ends_alike_without_the_backbone(
    begin: Begin, whole: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.safetensors"
    other.write_bytes(backbone.read_bytes())
    # Images are read in this process instead of another one.
    process = begin(data, *RECIPE, "--backbone", other, "-o", folder, settings=SETTINGS)
    deadline = time.monotonic() + 300
    while not ((folder / "log.jsonl").is_file() and len(rows(folder)) >= 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=240)
    other.unlink()
    assert not (folder / "result.json").exists()
    finished(begin("--resume", folder))
    assert rows(folder) == rows(whole)
    for name in WEIGHTS:
        arrays = (read_weights(path / name).tensors for path in (folder, whole))
        for expected, tensor in zip(*(tensors.values() for tensors in arrays), strict=True):
            assert np.array_equal(tensor, expected), name


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.long  # the same of classification is quick
def test_two_processes_compute_what_one_does(begin: Begin, data: Path, backbone: Path, tmp_path: Path) -> None:
    """With batch norms over all processes; those of a single cell amplify the rounding of the first step."""
    words = (data, *RECIPE, "--backbone", backbone)
    settings = (*SETTINGS, "epochs=1", "sync_bn=true", "lr=1e-3", "warmup_epochs=0")
    finished(begin(*words, "-o", tmp_path / "one", settings=settings))
    master = f"127.0.0.1:{free_port()}"
    processes = [
        begin(
            *words, "-o", tmp_path / "two", settings=settings,
            environment={
                "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_DISTRI_BACKEND": "gloo",
                "PADDLE_CURRENT_ENDPOINT": "x", "PADDLE_MASTER": master,
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        finished(process)
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for expected, row, bound in zip(one[:2], two[:2], (1e-4, 2e-2), strict=True):
        assert row["positives_per_image"] == expected["positives_per_image"]
        for name in ("loss", "classification_loss", "regression_loss"):
            assert row[name] == pytest.approx(expected[name], rel=bound)
    for kind in ("raw", "ema"):
        expected, summary = (row[-1]["val"][kind] for row in (one, two))
        for name in ("images", "objects", "detections"):  # the rows of both processes
            assert summary[name] == expected[name]
        for name in ("AP", "AP50", "voc_AP_11_point"):
            assert summary[name] == pytest.approx(expected[name], abs=5e-3)


def test_other_classes_begin_with_a_detectors_weights(whole: Path, tmp_path: Path, caplog: Any) -> None:
    other = write_pictures(tmp_path / "data", {"train": 4, "val": 4})
    for path in (other / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("<name>disc", "<name>ball"))
    with caplog.at_level("WARNING"):
        result = mobilenext.train(
            other, output=tmp_path / "run", weights=whole / "best.safetensors", workers=0,
            settings=["epochs=1", "warmup_epochs=0", "freeze=backbone", "batch_size=4"],
        )  # fmt: skip
    assert result["task"] == "detection"
    assert any("classes of other names than the weights'" in message for message in caplog.messages)
    first, last = (read_weights(path) for path in (whole / "best.safetensors", tmp_path / "run/last.safetensors"))
    # Weights keep their form, and so the priors and the size.
    assert (last.labels, last.architecture) == (("ball", "square"), first.architecture)
    for name, tensor in last.tensors.items():
        same = np.array_equal(tensor, first.tensors[name])
        assert same or not name.startswith("backbone.features."), name
        assert not (same and ".cls_headers." in name and name.endswith("conv.3.weight")), name
