"""The tables at the end of a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation_folders import write_evaluation
from mobilenext.machine.environment import environment
from mobilenext.report.tables import result_table
from mobilenext.runtime import RUNTIMES


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_version_of_every_runtime_is_told(runtime: str, tmp_path: Path) -> None:
    measured = environment()
    folder = write_evaluation(tmp_path, [0], [[0, 1]], [[0.9, 0.1]], classes=2, runtime=runtime, environment=measured)
    cell = result_table(json.loads((folder / "result.json").read_text()))
    package = RUNTIMES[runtime].package.replace("_", "-")
    if package == "paddle":
        package = "paddlepaddle-gpu" if "paddlepaddle-gpu" in measured else "paddlepaddle"
    assert "None" not in cell
    assert measured.get(package, "of unknown version") in cell


def test_a_result_of_a_runtime_that_is_not_known(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path, [0], [[0, 1]], [[0.9, 0.1]], classes=2, runtime="tensorrt", environment={})
    assert "tensorrt of unknown version" in result_table(json.loads((folder / "result.json").read_text()))
