"""The examples run, with the networks as they are."""

from __future__ import annotations

import copy
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import mobilenext
from mobilenext.weights.read import read_weights

ROOT = Path(__file__).parents[1]


PADDLE_REMARK = pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")


def write_few_digits(folder: Path) -> None:
    """Write 16 digits as both parts, which the example then leaves as they are."""
    (folder / "imgs").mkdir(parents=True)
    digits = load_digits()
    for number, pixels in enumerate(digits.images[:16]):
        Image.fromarray((pixels * 15.9).astype("uint8")).save(folder / "imgs" / f"{number}.png")
    for part in ("train", "val"):
        lines = [f"{number}.png {digits.target[number]}\n" for number in range(16)]
        (folder / f"{part}_list.txt").write_text("".join(lines))


@PADDLE_REMARK
def test_a_plain_paddle_loop_trains_and_saves_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_few_digits(tmp_path / "digits")
    arguments = ["--epochs", "2", "--batch-size", "8", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["paddle_training.py", *arguments])
    runpy.run_path(str(ROOT / "examples" / "paddle_training.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert len(re.findall(r"^epoch \d: loss [1-9]\.\d+$", printed, flags=re.MULTILINE)) == 2
    assert re.search(r"^top-1 [\d.]+ % \(\d+/16\)$", printed, flags=re.MULTILINE)
    weights = read_weights(tmp_path / "model.pdparams", model="mobilenext_x0_35")
    paddle.seed(0)
    fresh = mobilenext.create_model("mobilenext_x0_35", num_classes=10)
    trained = mobilenext.create_model("mobilenext_x0_35", weights=tmp_path / "model.pdparams")
    assert weights.num_classes == 10
    for before, after in zip(fresh.parameters(), trained.parameters(), strict=True):
        assert not np.array_equal(before, after)  # every step reached every parameter


@PADDLE_REMARK
def test_paddleclas_finds_the_network_of_the_configuration() -> None:
    """PaddleClas takes ``name`` out of Arch, and calls the attribute of that name of `ppcls.arch` with the rest."""
    folder = ROOT / "examples" / "paddleclas"
    arch = ModuleType("ppcls.arch")
    runpy.run_path(str(folder / "train.py"))["add_models"](arch)
    settings = copy.deepcopy(yaml.safe_load((folder / "mobilenext_x1_0.yaml").read_text())["Arch"])
    network = getattr(arch, settings.pop("name"))(**{**settings, "class_num": 7})
    network(paddle.rand([2, 3, 32, 32])).sum().backward()
    assert network.training
    assert all(tensor.grad is not None for tensor in network.parameters() if not tensor.stop_gradient)
    expected = mobilenext.create_model("mobilenext_x1_0", num_classes=7).state_dict()
    assert [*network.state_dict()] == [*expected]
