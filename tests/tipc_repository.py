"""A repository in which chains can run: our configurations with fewer combinations, and data of digits."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from warm import WarmCommands
from warm_python import interpreter

ROOT = Path(__file__).parents[1]
MODEL = "mobilenext_x0_35"
LONG = f"test_tipc/configs/{MODEL}/train_infer_python.txt"
PROD = f"test_tipc/configs/{MODEL}/train_infer_python_prod.txt"
PADDLECLAS = f"test_tipc/configs/paddleclas/{MODEL}_train_infer_python.txt"
_FEWER = ((":1|2", ":1"), (":1|4", ":4"))


class Repository:
    """A copy of what chains need, and what they leave."""

    def __init__(self, folder: Path, commands: WarmCommands, python: Path) -> None:
        self.folder = folder
        self._commands = commands
        self._python = python
        shutil.copytree(ROOT / "test_tipc", folder / "test_tipc", ignore=shutil.ignore_patterns("data", "output"))
        shutil.rmtree(folder / "test_tipc/weights", ignore_errors=True)
        (folder / "deploy").mkdir()
        for path in (folder / "test_tipc/configs").rglob("*.txt"):
            text = path.read_text()
            for more, fewer in _FEWER:
                text = text.replace(more, fewer)
            path.write_text(text.replace("infer=8", "infer=2"))

    def edit(self, config: str, **lines: str) -> str:
        """A copy of a configuration with other lines, such as ``_3="python:..."``; its interpreter is a fast one."""
        path = self.folder / config
        there = path.read_text().splitlines()
        for number, line in {"_3": f"python:{self._python}", **lines}.items():
            there[int(number[1:]) - 1] = line
        edited = path.with_name(f"{path.stem}_edited.txt")
        edited.write_text("\n".join(there) + "\n")
        return str(edited.relative_to(self.folder))

    def tipc(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """``python -m mobilenext.tipc`` there, which must end with `code`."""
        done = self._commands.run([*map(str, arguments)], self.folder, program="mobilenext.tipc.adapter")
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    def chain(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """``python test_tipc/run.py`` there, in a copy of a process."""
        return self._commands.run([*map(str, arguments)], self.folder, program="chain_program")

    def summary(self, mode: str, model: str = MODEL) -> dict[str, Any]:
        """What the chain of a mode left."""
        read: dict[str, Any] = json.loads(
            (self.folder / "test_tipc/output" / model / mode / "summary.json").read_text()
        )
        return read


# Fixtures, for the tests of tipc and of test_tipc.


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, warm_commands: WarmCommands) -> Iterator[Repository]:
    with interpreter(warm_commands, tmp_path_factory.mktemp("interpreter")) as python:
        yield Repository(tmp_path_factory.mktemp("repository"), warm_commands, python)


@pytest.fixture(scope="session")
def exported(repository: Repository) -> Path:
    """The bundled digits' weights, exported into a folder that has other files too."""
    repository.tipc("prepare", PROD, "whole_infer")
    weights = f"test_tipc/weights/{MODEL}"
    (repository.folder / "exported").mkdir()
    (repository.folder / "exported/best.safetensors").write_text("not an export's")
    repository.tipc("export", f"--pretrained={weights}", "--save-inference-dir=exported/")
    return repository.folder / "exported"


@pytest.fixture(scope="session")
def small(repository: Repository) -> str:
    """A folder of 160 digits to train on and 40 to validate."""
    config = repository.edit(LONG, _16="norm_train:-m mobilenext.tipc train --data=small")
    said = repository.tipc("prepare", config, "lite_train_lite_infer").stderr
    assert "small: 160 training and 40 validation images of scikit-learn's digits" in said
    return "small"
