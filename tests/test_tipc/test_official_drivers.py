"""The status lines of Paddle's drivers, as three generations of them write them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

COMMAND = "python3.9 tools/train.py -c a.yaml -o use_gpu=False --note 'a - b'"
LOG = "/home/user/PaddleClas/test_tipc/output/x0_35/lite_train_lite_infer/norm_train_gpus_0.log"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "official_drivers.py"
    spec = importlib.util.spec_from_file_location("official_drivers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("word", ["successfully", "failed"])
@pytest.mark.parametrize(
    "form",
    [
        "Run {word} with command - {command}!",
        "Run {word} with command - {command}!  ",
        "Run {word} with command - {command} ! ",
        "Run {word} with command - mobilenext_x0_35 - {command}!",
        "Run {word} with command -  - {command}!",
        "Run {word} with command - - {command}!",
        "Run {word} with command - mobilenext_x0_35 - {command} - {log}! ",
        "Run {word} with command - mobilenext_x0_35 - {command} - {log} !",
        "Run {word} with command - {command} - {log} ! ",
    ],
)
def test_a_line_says_whether_the_command_has_run(script: ModuleType, form: str, word: str) -> None:
    line = form.format(word=word, command=COMMAND, log=LOG)
    for colored in (line, f"\x1b[33m {line} \x1b[0m", f"\x1b[1;31m{line}\x1b[0m"):
        assert script.status_of(colored) == (word == "successfully", COMMAND)


@pytest.mark.parametrize("line", ["", "Run with command - python a.py!", "Run successfully with command", "done"])
def test_another_line_is_an_error(script: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="is no line of a status log"):
        script.status_of(line)
