"""The files of a Paddle Inference model: a program, ``.json`` or ``.pdmodel``, and its parameters."""

from __future__ import annotations

from pathlib import Path

from mobilenext.errors import DataError

OLDEST = "__model__"  # the program's name in Paddle 1, with the parameters in __params__
PROGRAMS = (".json", ".pdmodel")


def parameters_of(program: Path) -> Path:
    """Return the file with the parameters of a program."""
    return program.with_name("__params__") if program.name == OLDEST else program.with_suffix(".pdiparams")


def find_program(path: Path) -> Path:
    """Return the program of the one model in a folder, or the program that `path` is, with its parameters beside it.

    Raises:
        DataError: there is none, or several are in the folder.
    """
    if path.is_file():
        if not _is_program(path):
            raise DataError(f"{path}: expected an exported folder, or inference.json or .pdmodel of Paddle Inference")
        return _with_parameters(path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    programs = [file for file in files if _is_program(file) and parameters_of(file).is_file()]
    if len(programs) > 1:
        raise DataError(
            f"{path} holds several models: {', '.join(file.name for file in programs)}; name one of them: "
            f"--exported {programs[0]}"
        )
    if programs:
        return programs[0]
    for file in files:
        if file.suffix == ".pdmodel" or file.name == OLDEST:
            return _with_parameters(file)
    raise DataError(
        f"{path} has no mobilenext.json: expected a folder made by `mobilenext export`, or a Paddle Inference model of "
        "another project (inference.json or .pdmodel, and .pdiparams)"
    )


def _is_program(file: Path) -> bool:
    return file.suffix in PROGRAMS or file.name == OLDEST


def _with_parameters(program: Path) -> Path:
    parameters = parameters_of(program)
    if not parameters.is_file():
        raise DataError(f"{program} lacks its parameters, {parameters.name}; put that file beside it")
    return program
