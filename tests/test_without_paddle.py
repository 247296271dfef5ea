"""Where Paddle is not installed every verb works without it, or has one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from in_process import run_in_one_process
from mobilenext.cli.program import VERBS
from mobilenext.data.digits import write_digits

MODEL = ("--model", "mobilenext_x0_35.digits")
# What needs Paddle, and what does not; every verb is in one of the two.
NEEDING = {
    "convert": ("convert", "mobilenext_x0_35.digits", "-o", "OUT/a.safetensors"),
    "evaluate": ("evaluate", "DATA", *MODEL),
    "evaluate by a runtime of its own": ("evaluate", "DATA", *MODEL, "--runtime", "onnxruntime"),
    "predict": ("predict", "DATA/imgs", *MODEL),
    "explain": ("explain", "DATA/imgs", *MODEL, "-o", "OUT/explained"),
    "diagram": ("diagram", "--model", "mobilenext_x0_35", "-o", "OUT/a.svg"),
    "train": ("train", "DATA", "--train-list", "DATA/val_list.txt", *MODEL, "-o", "OUT/run"),
    "train from scratch": (
        *("train", "DATA", "--train-list", "DATA/val_list.txt", "--model", "mobilenext_x0_35", "--recipe", "tiny"),
        *("-o", "OUT/run"),
    ),
    "search": ("search", "DATA", "--train-list", "DATA/val_list.txt", "--recipe", "short", "-o", "OUT/search"),
    "search over blocks": (
        *("search", "DATA", "--train-list", "DATA/val_list.txt", "--recipe", "blocks", "--weights", MODEL[1]),
        *("-o", "OUT/search"),
    ),
    "measure costs": (
        "search",
        "--measure-costs",
        "onnxruntime",
        "--model",
        "mobilenext_x0_35",
        "-o",
        "OUT/costs.json",
    ),
    "export": ("export", *MODEL, "-o", "OUT/onnx"),
    "quantize": ("quantize", *MODEL, "--calibration", "DATA", "-o", "OUT/int8"),
    "bench": ("bench", "--model", "mobilenext_x0_35"),
    "bench of weights": ("bench", *MODEL, "--runtime", "onnxruntime"),
    "quickstart": ("quickstart", "-o", "OUT/quickstart"),
    "serve": ("serve", *MODEL, "--port", "0"),
}
WORKING = {
    "list": ("list",),
    "recipes": ("recipes", "finetune"),
    "check-data": ("check-data", "DATA"),
    "info": ("info",),
}
ELSEWHERE = ("compare", "report")  # they read what others wrote

# Python imports a module of this name at its start, in worker processes too.
SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder
class WithoutPaddle(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "paddle" else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutPaddle
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of every case; and that nothing was left behind."""
    folder = tmp_path_factory.mktemp("without paddle")
    data, out = write_digits(folder / "digits"), folder / "out"
    out.mkdir()
    words = {
        case: [word.replace("DATA", str(data)).replace("OUT", str(out)) for word in command]
        for case, command in {**NEEDING, **WORKING}.items()
    }
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    results = run_in_one_process(words, dict.fromkeys(words, out), folder, {"PYTHONPATH": path})
    left = {path.name for path in Path(out).iterdir()} - {"quickstart"}  # the digits, which need no Paddle
    assert not left
    return results


def test_every_verb_is_tried() -> None:
    assert {words[0] for words in (*NEEDING.values(), *WORKING.values())} | set(ELSEWHERE) == set(VERBS)


@pytest.mark.parametrize("case", NEEDING)
def test_what_needs_paddle_says_so(case: str, done: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = done[case]
    assert (code, out) == (2, ""), err
    (line,) = [line for line in err.splitlines() if line.startswith("mobilenext: ")]
    no_int8 = case == "quantize" and "this processor has none of" in line  # which is known before
    assert no_int8 or line.startswith("mobilenext: PaddlePaddle is not installed: `pip install 'mobilenext[cpu]'`")
    assert err.splitlines()[-1] == line


@pytest.mark.parametrize("case", WORKING)
def test_what_does_not_works(case: str, done: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = done[case]
    assert code == 0, err
    assert out
