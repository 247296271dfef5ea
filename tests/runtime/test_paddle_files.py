"""Which files of a folder are a Paddle Inference model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilenext.errors import DataError
from mobilenext.runtime.paddle_files import find_program


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("names", "program"),
    [
        (("inference.json", "inference.pdiparams", "config.json", "inference.yml"), "inference.json"),
        (("inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info"), "inference.pdmodel"),
        (("model.pdmodel", "model.pdiparams"), "model.pdmodel"),
        (("__model__", "__params__"), "__model__"),
    ],
)
def test_names_of_every_version(names: tuple[str, ...], program: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "m", *names)
    assert find_program(folder) == folder / program == find_program(folder / program)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("a.json", "a.pdmodel", "a.pdiparams"),
            r"holds several models: a.json, a.pdmodel; name one of them: --exported .*/m/a.json",
        ),
        (
            ("inference.pdmodel",),
            r"inference.pdmodel lacks its parameters, inference.pdiparams; put that file beside it",
        ),
        (("__model__",), "lacks its parameters, __params__"),
        (
            ("config.json",),
            r"has no mobilenext.json: expected a folder made by `mobilenext export`, or a Paddle Inference",
        ),
        ((), "has no mobilenext.json"),
    ],
)
def test_folders_without_one(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        find_program(fill(tmp_path / "m", *names))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.pdiparams: expected an exported folder, or inference.json or .pdmodel"):
        find_program(fill(tmp_path, "a.pdiparams") / "a.pdiparams")
