"""Other projects' models from the command line to the result."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.onnx_models import classifier

from mobilenext.cli import main
from mobilenext.errors import UsageError
from mobilenext.evaluation.run import evaluate
from mobilenext.machine.packages import installed

if TYPE_CHECKING:
    from tests.conftest import World

for package in ("onnx", "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra onnx)", allow_module_level=True)

WEIGHT = np.random.default_rng(8).normal(size=(3, 8)).astype(np.float32)
FORM: dict[str, Any] = {"batch": 4, "layout": "NHWC", "end": "Softmax", "size": 32, "weight": WEIGHT}


def external(path: Path) -> Path:
    """The file with its weight in another beside it."""
    onnx: Any = import_module("onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_an_evaluation_by_the_command(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch of 4, channels last, a softmax inside and weights in a second file, all at once."""
    path = external(classifier(tmp_path / "other.onnx", **FORM))
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{number} class {number}\n" for number in reversed(range(8))))
    means = world.inputs.mean((2, 3), dtype=np.float64)  # the network's answers, by hand
    logits = means @ WEIGHT
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    correct = int((logits.argmax(1) == world.labels).sum())
    loss = -np.log(probabilities[np.arange(len(logits)), world.labels]).mean()

    command = [
        *("evaluate", str(world.data), "--onnx", str(path), "--crop-pct", "1", "--labels", str(names)),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229", "0.224", "0.225", "--workers", "1", "--json"),
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["correct_top1"] == correct
    assert result["loss"] == pytest.approx(loss, abs=1e-4)
    assert result["batch_size"] == 4, "what it takes at a time, where nobody asked for another"
    assert {row["name"] for row in result["per_class"]} == {f"class {label}" for label in world.labels}
    for note in ("its batch is fixed to 4", "with the channels last", "a softmax is inside"):
        assert any(note in line for line in result["notes"]), note
        assert note in err


def test_a_resumed_evaluation_sees_every_file(world: World, tmp_path: Path) -> None:
    path = external(classifier(tmp_path / "other.onnx", **FORM))
    options: dict[str, Any] = {
        "onnx": path, "output": tmp_path / "run", "workers": 1,
        "preprocessing": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0},
    }  # fmt: skip
    evaluate(world.data, **options)
    values = np.fromfile(tmp_path / "weights.bin", np.float32)
    values[::-1].tofile(tmp_path / "weights.bin")
    with pytest.raises(UsageError, match="is of another evaluation"):
        evaluate(world.data, **options, resume=True)


def test_the_command_asks(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = classifier(tmp_path / "other.onnx", size=32, weight=WEIGHT)
    assert main(["evaluate", str(world.data), "--onnx", str(path)]) == 2
    assert "give --mean and --std, such as --mean 0.485,0.456,0.406 --std" in capsys.readouterr().err
