"""Whole runs on 48 small images: they learn, and end alike however often they were interrupted."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from PIL import Image

from mobilenext.classification.task import TASK
from mobilenext.data import open_dataset, pixels_of
from mobilenext.errors import CheckFailed, DataError, UsageError
from mobilenext.models import build_network
from mobilenext.report.training_report import comparison_lines
from mobilenext.runs.log import Sums
from mobilenext.runs.run_folder import config_digest, read_config
from mobilenext.runs.training_run import read_run
from mobilenext.training.loop import Loop
from mobilenext.training.run import train
from mobilenext.training.state import read_state
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights

Run = Callable[..., CompletedProcess[str]]
Start = Callable[..., Popen[str]]
pytestmark = pytest.mark.usefixtures("without_curves")

MODEL = "mobilenext_x0_35"
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
EPOCHS, STEPS, TRAINING, VALIDATION = 8, 4, 48, 24
RECIPE = {
    "epochs": EPOCHS, "batch_size": 12, "lr_batch_size": 12, "lr": 0.003, "warmup_epochs": 1, "image_size": 32,
    "padding": 2, "label_smoothing": 0, "dropout": 0.1, "drop_connect": 0.05, "ema_decay": 0.8, "erasing": 0.2,
}  # fmt: skip
WEIGHTS = ("best.safetensors", "last.safetensors", "last_ema.safetensors")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")  # not the same twice


def settings(**others: Any) -> list[str]:
    return [f"{name}={value}" for name, value in {**RECIPE, **others}.items()]


def command(*options: object, **others: Any) -> list[object]:
    """A new run; each step is logged."""
    setting = [word for text in settings(**others) for word in ("--set", text)]
    return ["--model", MODEL, "--recipe", "tiny", "--seed", 5, "--log-every", 1, *setting, *options]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four colours with noise, 16 to 32 pixels wide and high."""
    root = tmp_path_factory.mktemp("colours")
    for part, count in (("train", TRAINING), ("val", VALIDATION)):
        for number in range(count):
            label = number % len(COLORS)
            folder = root / part / f"colour {label}"
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, len(part)])
            width, height = noise.integers(16, 33, 2)
            pixels = np.array(COLORS[label]) + noise.normal(0, 40, (height, width, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def learnt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer run, without what makes it harder."""
    folder = tmp_path_factory.mktemp("runs") / "learnt"
    easier = settings(epochs=24, lr=0.006, dropout=0, drop_connect=0, erasing=0)
    train(data, output=folder, model=MODEL, recipe="tiny", settings=easier, seed=5, log_every=STEPS, workers=0)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory, mobilenext: Run) -> Path:
    """A run from beginning to end without a stop."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = mobilenext("train", *command(data, "-o", folder, "--workers", 0))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def short(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    train_short(data, output=folder, seed=5)
    return folder


def train_short(data: Path | None = None, **options: Any) -> dict[str, Any]:
    """One epoch in this process; each step is logged."""
    if data is not None:
        options = {"model": MODEL, "recipe": "tiny", "settings": settings(epochs=1, warmup_epochs=0)} | options
    return train(data, **{"workers": 0, "log_every": 1} | options)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


def assert_same(folder: Path, whole: Path) -> None:
    assert rows(folder) == rows(whole)
    for name in WEIGHTS:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    results = [json.loads((each / "result.json").read_text()) for each in (folder, whole)]
    for name in ("best", "final", "model", "seed", "recipe", "run_sha256", "data", "unreadable"):
        assert results[0][name] == results[1][name], name


def wait_for_lines(folder: Path, count: int, process: Popen[str]) -> int:
    """Until the log has so many lines, or more."""
    deadline = time.monotonic() + 300  # on a machine that is busy
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "log.jsonl").is_file():
            lines = (folder / "log.jsonl").read_bytes().count(b"\n")
            if lines >= count:
                return lines
        time.sleep(0.005)
    said = process.communicate(timeout=300) if process.poll() is not None else "it is slow"
    raise AssertionError(f"{folder} does not reach {count} lines: {said}")


def tensors_of(checkpoint: Path) -> dict[str, np.ndarray]:
    """Of a checkpoint that can be read and belongs to the run beside it; with the part before each name."""
    position, parts = read_state(
        checkpoint, config_digest(read_config(checkpoint.parent)), TASK.presentation.check_counts
    )
    assert position.global_step == position.epoch * STEPS + position.step
    assert {"network", "average"} <= set(parts) <= {"network", "average", "optimizer"}  # before its first step, none
    return {f"{part}/{name}": values for part, tensors in parts.items() for name, values in tensors.items()}


# --- A run ------------------------------------------------------------------------------------------------------------


def test_it_learns(learnt: Path) -> None:
    epochs = [row for row in rows(learnt) if row["event"] == "epoch"]
    guessing = math.log(len(COLORS))
    assert epochs[0]["train_loss"] > 0.5 * guessing
    assert sum(row["train_loss"] for row in epochs[-4:]) / 4 < 0.3 * guessing
    result = json.loads((learnt / "result.json").read_text())
    assert result["best"]["correct_top1"] >= 0.9 * VALIDATION


def test_the_files_are_those_that_reports_read(whole: Path) -> None:
    run = read_run(whole)
    assert len(run.steps) == EPOCHS * STEPS
    assert [row["global_step"] for row in run.steps] == list(range(1, EPOCHS * STEPS + 1))
    assert [(row["epoch"], row["step"]) for row in run.steps][:5] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert [row["epoch"] for row in run.epochs] == list(range(1, EPOCHS + 1))
    assert (run.config["model"], run.config["seed"], run.config["steps_per_epoch"]) == (MODEL, 5, STEPS)
    assert run.result
    assert run.result["final"] == run.epochs[-1]["val"]
    for row in run.epochs:  # the mean over the steps is that over the images, as all batches are full
        losses = [step["loss"] for step in run.steps if step["epoch"] == row["epoch"]]
        assert row["train_loss"] == pytest.approx(sum(losses) / STEPS, rel=1e-12)
        assert all(counts["images"] == VALIDATION for counts in row["val"].values())
    found = [(counts["correct_top1"], -row["epoch"], kind == "raw", kind)
             for row in run.epochs for kind, counts in row["val"].items()]  # fmt: skip
    best, epoch, _, kind = max(found)  # the first of equals
    assert (run.result["best"]["correct_top1"], run.result["best"]["epoch"], run.result["best"]["kind"]) == (
        best, -epoch, kind,
    )  # fmt: skip
    assert any(MODEL in line for line in comparison_lines([run, run]))
    assert {path.name for path in whole.iterdir()} >= {"run.json", "checkpoint.safetensors", "log.jsonl", *WEIGHTS}


def test_the_weights_give_the_counts_of_the_result(learnt: Path, data: Path, mobilenext: Run) -> None:
    best = json.loads((learnt / "result.json").read_text())["best"]
    done = mobilenext("evaluate", data, "--weights", learnt / "best.safetensors", "--json", "--workers", 1,
                      "--runtime", "paddle")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("images", "correct_top1", "correct_top5"):
        assert found[name] == best[name], name
    assert found["loss"] == pytest.approx(best["loss"], abs=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("last.safetensors", "raw"), ("last_ema.safetensors", "ema")])
def test_the_last_weights_are_those_of_the_last_validation(learnt: Path, data: Path, name: str, kind: str) -> None:
    weights = read_weights(learnt / name)
    assert (weights.model, weights.kind, weights.labels) == (MODEL, kind, tuple(f"colour {n}" for n in range(4)))
    assert (weights.preprocessing.image_size, weights.preprocessing.crop_pct) == (32, 1.0)
    network = build_network(MODEL, num_classes=4)
    load_weights(network, weights)
    network.eval()
    correct, loss = 0, 0.0
    for record in open_dataset(data).records:
        pixels = pixels_of(record.path, weights.preprocessing)[np.newaxis]
        with paddle.no_grad():
            logits = network(paddle.to_tensor(weights.preprocessing.normalize(pixels))).numpy()[0].astype(float)
        correct += int(logits.argmax()) == record.label
        loss += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[record.label]
    final = json.loads((learnt / "result.json").read_text())["final"][kind]
    assert (final["images"], final["correct_top1"]) == (VALIDATION, correct)
    assert final["loss"] == pytest.approx(loss / VALIDATION, abs=1e-4)


# --- Interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.long  # killed once: everything at once, below
@pytest.mark.parametrize("kills", [1, 3])
def test_killed_again_and_again_it_ends_alike(
    kills: int, whole: Path, data: Path, tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "run"
    ways = [("--workers", 2, "--save-every", 0.3), ("--workers", 0, "--save-every", 0), ("--workers", 2)]
    ways = [*ways[:kills], ("--workers", 0)]
    for number, way in enumerate(ways):
        arguments = command(data, "-o", folder, *way) if not number else ["--resume", folder, "--log-every", 1, *way]
        process = start("train", *arguments)
        if number == len(ways) - 1:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
            break
        wait_for_lines(folder, (2, 15, 26)[number], process)
        time.sleep(random.random() * 0.2)
        assert process.poll() is None, "it has ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "result.json").exists()
    assert_same(folder, whole)


EVERYTHING = {
    "epochs": 40, "freeze": 12, "freeze_bn": "statistics", "class_weights": "balanced", "sampling": "balanced",
    "mixup": 0.4, "cutmix": 1.0, "patience": 2, "best_metric": "macro_f1", "label_smoothing": 0.1,
}  # fmt: skip


def test_everything_at_once_killed_it_ends_alike(learnt: Path, data: Path, tmp_path: Path, start: Start) -> None:
    """From weights, on classes of different sizes; both end early, after the same epoch."""
    listed = sorted((data / "train").rglob("*.png"))
    names = [path.relative_to(data) for path in listed if path.parent.name != "colour 3" or path.stem < "24"]
    (tmp_path / "train_list.txt").write_text("".join(f"{name}\t{name.parent.name[-1]}\n" for name in names))
    words = command(
        data, "--weights", learnt / "best.safetensors", "--train-list", tmp_path / "train_list.txt", "--num-classes", 4,
        "--workers", 0, **EVERYTHING,
    )  # fmt: skip
    whole, folder = tmp_path / "whole", tmp_path / "run"
    process = start("train", *words, "-o", whole)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    process = start("train", *words, "-o", folder, "--save-every", 0)
    wait_for_lines(folder, 6, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = start("train", "--resume", folder, "--workers", 2, "--log-every", 1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_same(folder, whole)

    result = json.loads((folder / "result.json").read_text())
    epochs = [row for row in rows(folder) if row["event"] == "epoch"]
    best = max(
        ((row["val"][kind]["macro_f1_percent"], -row["epoch"], kind == "raw") for row in epochs for kind in row["val"]),
    )
    assert (result["best"]["macro_f1_percent"], -result["best"]["epoch"]) == best[:2]
    assert result["epochs_done"] == len(epochs) == result["best"]["epoch"] + 2 < 40
    assert result["stopped_early"]
    assert f"stopped early: no better macro_f1 for 2 epochs; the best was that of epoch {-best[1]}" in said
    first, last = (read_weights(path).tensors for path in (learnt / "best.safetensors", folder / "last.safetensors"))
    for name, tensor in first.items():
        block = int(name.split(".")[1]) if name.startswith("features.") else 99
        kept = block < 12 or name.endswith(("._mean", "._variance"))
        assert (tensor.tobytes() == last[name].tobytes()) == kept, name


def test_stopped_by_signals_it_ends_alike(whole: Path, data: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "run"
    process = start("train", *command(data, "-o", folder, "--workers", 0))
    wait_for_lines(folder, 2, process)
    process.send_signal(signal.SIGHUP)  # its terminal goes away
    _, said = process.communicate(timeout=300)
    assert process.returncode == 129
    assert "stopped after step" in said
    assert f"--resume {folder}" in said
    position, _ = read_state(
        folder / "checkpoint.safetensors", config_digest(read_config(folder)), TASK.presentation.check_counts
    )
    assert position.global_step == rows(folder)[-1]["global_step"]
    assert position.step in (1, 2, 3)

    # Ctrl-C goes to the workers, too.
    process = start("train", "--resume", folder, "--workers", 2, "--log-every", 1)
    wait_for_lines(folder, len(rows(folder)) + 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "stopped after step" in said

    process = start("train", "--resume", folder, "--workers", 0, "--log-every", 1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_same(folder, whole)


def test_a_full_disk_leaves_the_checkpoint(data: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "run"
    process = start("train", *command(data, "-o", folder, "--workers", 0, "--save-every", 0))
    wait_for_lines(folder, 3, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # less than a checkpoint
    _, said = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "Traceback" not in said
    assert f"cannot write {folder / 'checkpoint.safetensors'}" in said
    assert any("optimizer/" in name for name in tensors_of(folder / "checkpoint.safetensors"))
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("rate", "what"),
    [
        pytest.param("1e30", "is not finite", marks=pytest.mark.long),
        ("40", r"is \d+\.\d\d, where guessing has 1\.39"),
    ],
)
def test_a_loss_that_is_lost(rate: str, what: str, data: Path, tmp_path: Path, mobilenext: Run) -> None:
    folder = tmp_path / "run"
    done = mobilenext("train", *command(data, "-o", folder, "--save-every", 0, lr=rate, warmup_epochs=0))
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("mobilenext: ") :]
    assert_matches(rf"the loss {what} after step \d of epoch [1-8] \(learning rate ", message)
    assert f"The last good checkpoint is kept in {folder / 'checkpoint.safetensors'}" in message
    for name, values in tensors_of(folder / "checkpoint.safetensors").items():
        assert name.startswith("optimizer/") or np.isfinite(values).all(), name
    assert not (folder / "result.json").exists()


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


@pytest.mark.parametrize(("rate", "log_every"), [(1e6, 1), (1e6, STEPS), (1e38, STEPS)])
def test_a_diverging_run_keeps_a_checkpoint_that_is_finite(
    rate: float, log_every: int, data: Path, tmp_path: Path
) -> None:
    """A checkpoint is due after each step, whether a line of the log looks at the loss there or not.

    At the highest rate the first loss is a number, and the weights after it are not.
    """
    folder = tmp_path / "run"
    options = {"settings": settings(lr=rate, warmup_epochs=0), "log_every": log_every, "save_every": 0}
    with pytest.raises(CheckFailed) as caught:
        train_short(data, output=folder, **options)
    kept = folder / "checkpoint.safetensors"
    assert f"The last good checkpoint is kept in {kept}." in str(caught.value)
    tensors = tensors_of(kept)
    assert tensors
    for name, values in tensors.items():
        assert np.isfinite(values).all(), name
    position, _ = read_state(kept, config_digest(read_config(folder)), TASK.presentation.check_counts)
    assert position.window.loss <= position.window.images * (5 * math.log(len(COLORS)) + 10)
    assert not list(folder.glob(".*.tmp"))


# --- Begun, and not begun ---------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and when it was written, but what is said and the lock."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.name not in ("train.log", ".lock")
    }


def begun(short: Path, folder: Path, **changes: Any) -> Path:
    """The same run, killed before its first checkpoint; with other values in its record."""
    folder.mkdir()
    config = json.loads((short / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(config | changes))
    return folder


def test_a_run_without_a_checkpoint_begins_anew(short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = begun(short, tmp_path / "run")
    (folder / "log.jsonl").write_text('{"event": "step", "global_step": 1}\n')
    with caplog.at_level(logging.INFO):
        train_short(resume=folder)
    assert_same(folder, short)
    assert read_config(folder) == read_config(short)
    assert "epoch 1/1, step 1/4" in caplog.text
    for sentence in ("resumed", "the run began elsewhere"):
        assert sentence not in caplog.text


def test_first_weights_are_not_at_hand_to_begin_anew_with(short: Path, tmp_path: Path) -> None:
    weights = {"file": "some.safetensors", "sha256": "0" * 64, "kind": "raw"}
    folder = begun(short, tmp_path / "run", weights=weights)
    before = contents(folder)
    with pytest.raises(DataError, match="no such checkpoint; the run had not begun: start it anew"):
        train_short(resume=folder)
    assert contents(folder) == before


def test_a_run_goes_on_elsewhere_and_says_so(short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = read_config(short)["environment"]
    elsewhere = environment | {"threads": 3, "paddlepaddle": "2.6.0", "load_average": [9.0, 9.0, 9.0], "cores": 999}
    folder = begun(short, tmp_path / "run", environment=elsewhere)
    train_short(resume=folder)
    sentence = "the run began elsewhere, and its bits may differ from here on: "
    (warning,) = (record for record in caplog.records if record.getMessage().startswith(sentence))
    assert warning.levelno == logging.WARNING
    changes = warning.getMessage().removeprefix(sentence).split("; ")
    version = environment["paddlepaddle"]
    assert sorted(changes) == [f"paddlepaddle: 2.6.0 before, {version}", f"threads: 3 before, {environment['threads']}"]
    assert_same(folder, short)
    assert read_config(folder)["environment"] == elsewhere


def test_a_finished_run_is_finished(short: Path, mobilenext: Run) -> None:
    before = contents(short)
    done = mobilenext("train", "--resume", short, "--json")
    assert done.returncode == 0, done.stderr
    assert f"{short} is finished already" in done.stderr
    assert json.loads(done.stdout) == json.loads((short / "result.json").read_text())
    assert contents(short) == before


def test_an_unreadable_image_of_the_validation(data: Path, tmp_path: Path, mobilenext: Run) -> None:
    """What the end of an epoch would meet ends the run before its first step."""
    shutil.copytree(data, tmp_path / "data")
    broken = tmp_path / "data" / "val" / "colour 2" / "22.png"
    broken.write_bytes(broken.read_bytes()[:60])
    options = ("--workers", 0, "--max-unreadable", 3)  # of training images
    done = mobilenext("train", *command(tmp_path / "data", "-o", tmp_path / "new" / "run", *options))
    assert done.returncode == 3
    assert f"mobilenext: 1 image cannot be read:\n    {broken}: " in done.stderr
    assert "step 1/" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"settings": settings(sync_bn="true", accumulate=2), "max_unreadable": 1},
            "sync_bn with accumulate and max_unreadable: .*; use --set accumulate=1",
        ),
        ({"settings": settings(image_size=31)}, "image_size is 31; expected 32 or more, the networks' stride"),
        ({"settings": "epochs=1"}, "settings is the text 'epochs=1'; expected a list of such texts"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train_short(data, output=tmp_path / "new" / "run", **options)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_refused(make_loop: Callable[..., Loop]) -> None:
    """The smallest images; and parts of a batch with shared statistics, where no image may be left out."""
    loop = make_loop(sync_bn="true", accumulate=2)
    assert loop.recipe.augmentation.image_size == 32


def test_a_length_in_steps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps of four an epoch: the second epoch has two. Stopped between the last step and its validation, too."""
    folder, broken = tmp_path / "run", tmp_path / "broken"
    six = settings(steps=6, warmup_steps=2, schedule="milestones", milestones="4", warmup_epochs=0)
    train_short(data, output=folder, seed=5, settings=six)
    validate = Loop._validate

    def fail_at_the_end(loop: Loop) -> Any:
        if loop.position.global_step == 6:
            raise KeyboardInterrupt
        return validate(loop)

    monkeypatch.setattr(Loop, "_validate", fail_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        train_short(data, output=broken, seed=5, settings=six)
    monkeypatch.undo()
    train_short(resume=broken)
    assert_same(broken, folder)
    result = json.loads((folder / "result.json").read_text())
    assert (read_config(folder)["epochs"], result["epochs_done"], result["stopped_early"]) == (2, 2, False)
    steps = [(row["epoch"], row["step"]) for row in rows(folder) if row["event"] == "step"]
    assert steps == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]
    rates = [row["lr"] for row in rows(folder) if row["event"] == "step"]
    assert rates == pytest.approx([0.01, 0.0065, 0.003, 0.003, 0.0003, 0.0003])  # the recipe's warm-up begins at 0.01


def test_scalars_for_visualdl(data: Path, tmp_path: Path) -> None:
    visualdl = pytest.importorskip("visualdl", reason="the extra visualdl is not installed")
    folder = tmp_path / "run"
    train_short(data, output=folder, visualdl=True)
    (written,) = (folder / "visualdl").iterdir()
    reader = visualdl.LogReader(file_path=str(written))
    steps = [row for row in rows(folder) if row["event"] == "step"]
    (epoch,) = (row for row in rows(folder) if row["event"] == "epoch")
    assert len(steps) == STEPS
    expected = {"train/loss": [(row["global_step"], row["loss"]) for row in steps]} | {
        f"validation/{kind}_top1_percent": [(STEPS, epoch["val"][kind]["top1_percent"])] for kind in ("raw", "ema")
    }
    for tag, values in expected.items():
        found = [(each.id, each.value) for each in reader.get_data("scalar", tag)]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in values], tag  # of float32


# --- One step ---------------------------------------------------------------------------------------------------------


class Made(Exception):
    """The loop is made, and goes no further."""


@pytest.fixture
def make_loop(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    """The loop of a run that is about to begin."""
    made: list[Loop] = []

    def run(loop: Loop) -> None:
        made.append(loop)
        raise Made

    def make(model: str = MODEL, **others: Any) -> Loop:
        monkeypatch.setattr(Loop, "run", run)
        folder = tmp_path / f"run {len(made)}"
        with pytest.raises(Made):
            train(data, output=folder, model=model, recipe="tiny", settings=settings(**others), seed=5, workers=0)
        return made[-1]

    return make


def test_parts_of_a_batch_add_up(make_loop: Callable[..., Loop]) -> None:
    """The weights after two steps and the sums of the log, with batch norms in evaluation mode and no dropout.

    In training mode they normalise each part by itself, and a batch in parts is another computation.
    """
    found = {}
    for parts in (1, 2, 4, 5):  # 12 images in 5 parts: 3, 3, 2, 2, 2
        loop = make_loop(accumulate=parts, label_smoothing=0.1)
        loop.network.eval()
        before = loop.weights()
        for batch, _ in zip(loop.feeder.epoch(0), range(2), strict=False):
            loop.step(batch, 0.05)
        found[parts] = loop.weights()
        sums = loop._pending.numpy()
        if parts == 1:
            whole_sums = sums
            length = distance(found[1], before)
            assert length > 0.01
        else:
            assert sums[1:].tolist() == whole_sums[1:].tolist()  # images, correct
            assert sums[0] == pytest.approx(whole_sums[0], rel=1e-6)
            assert distance(found[parts], found[1]) <= 1e-5 * length  # measured: 6e-7
    assert whole_sums[1] == 24


def test_a_mixed_and_weighted_batch_by_hand(make_loop: Callable[..., Loop]) -> None:
    """Of a step: what is minimised, its gradient by the classifier's bias, and what the log is told."""
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    for parts in (1, 3):
        loop = make_loop(
            accumulate=parts, class_weights="1,2,3,4", label_smoothing=0.1, mixup=0.4, cutmix=1.0, dropout=0,
            drop_connect=0, ema_decay=0, momentum=0, nesterov="false", weight_decay=0,
        )  # fmt: skip
        loop.network.eval()
        (batch,) = (batch for batch, _ in zip(loop.feeder.epoch(0), range(1), strict=False))
        labels, neighbors, share = batch.targets["labels"], batch.targets["neighbors"], batch.shared.mix.share
        assert 0 < share < 1
        logits = loop.network(paddle.to_tensor(batch.inputs)).numpy().astype(float)
        bias = loop.weights()["classifier.1.bias"]
        loop.step(batch, 0.5)
        moved = (bias - loop.weights()["classifier.1.bias"]) / 0.5

        one_hot = np.eye(4)
        targets = share * one_hot[labels] + (1 - share) * one_hot[neighbors]
        targets = (0.9 * targets + 0.1 / 4) * weights
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        whole = weights[labels].sum()
        assert batch.shared.weight == whole == weights[neighbors].sum()
        gradient = np.exp(log_probabilities) * targets.sum(axis=1, keepdims=True) - targets
        np.testing.assert_allclose(moved, gradient.sum(axis=0) / whole, rtol=1e-3, atol=1e-5)
        loss, images, correct = loop._pending.numpy().tolist()
        assert images == 12
        assert loss / images == pytest.approx(-(targets * log_probabilities).sum() / whole, rel=1e-5)
        dominant = labels if share >= 0.5 else neighbors
        assert correct == (logits.argmax(axis=1) == dominant).sum()


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return math.sqrt(sum(((one[name] - other[name]).astype(float) ** 2).sum() for name in one))


def test_dropout_reaches_the_network(make_loop: Callable[..., Loop]) -> None:
    for model in ("mobilenext_s", "mobilenext_x0_35", "mobilenetv2_x0_35"):
        network = make_loop(model, dropout=0.37, drop_connect=0.19).network
        rates = {layer.p for layer in network.sublayers() if isinstance(layer, nn.Dropout)}
        assert rates == {0.37}
        blocks = [block.drop_connect_rate for _, block in network.blocks() if hasattr(block, "drop_connect_rate")]
        assert blocks[0] < 0.02
        assert max(blocks) == blocks[-1] <= 0.19
        assert blocks[-1] > 0.15
        assert blocks == sorted(blocks)
        assert network.training


def test_the_networks_own_dropout_stays(make_loop: Callable[..., Loop]) -> None:
    own = build_network("mobilenext_s")
    network = make_loop("mobilenext_s", dropout=None, drop_connect=None).network
    for one, other in zip(network.sublayers(), own.sublayers(), strict=True):
        if isinstance(one, nn.Dropout):
            assert one.p == other.p > 0
        assert getattr(one, "drop_connect_rate", None) == getattr(other, "drop_connect_rate", None)


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_dropout_depends_on_the_step_alone(make_loop: Callable[..., Loop]) -> None:
    updates = []
    for seen, step in ((0, 7), (3, 7), (0, 8)):
        loop = make_loop(dropout=0.5, drop_connect=0.5)
        paddle.seed(seen)
        loop.position.global_step = step
        batch = next(iter(loop.feeder.epoch(0)))
        loop.step(batch, 0.05)
        updates.append(loop.weights()["classifier.1.weight"].tobytes())
    assert updates[0] == updates[1]
    assert updates[0] != updates[2]


def test_where_a_loss_is_lost(make_loop: Callable[..., Loop]) -> None:
    """Guessing one of four classes has ln 4 = 1.38629; the bound is five times that, and 10 more, for each image."""
    loop = make_loop()
    bound = 16.93147180559945
    for images in (1, 4, 64):  # by powers of two, so that no rounding decides
        assert not loop._is_off(Sums(loss=images * (bound - 1e-12), images=images))
        assert loop._is_off(Sums(loss=images * (bound + 1e-12), images=images))
    assert not loop._is_off(Sums())
