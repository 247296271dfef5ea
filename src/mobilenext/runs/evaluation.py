"""An evaluation as it lies in its folder: its result and its predictions, which must belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError
from mobilenext.json_files import Unfit
from mobilenext.presentation import Reported
from mobilenext.runs.journal import PREDICTIONS, RESULT, predictions_of
from mobilenext.runs.result import read_result
from mobilenext.task import Task
from mobilenext.tasks import find_task


def read_evaluation(
    folder: Path, name: str, *, expected: str, progress: Callable[[int], None] | None = None
) -> Reported:
    """Read a finished evaluation, its predictions as columns of its task.

    Args:
        folder: that was evaluated into.
        name: of the run.
        expected: what the message says of a missing file.
        progress: called with the number of images whose predictions are read.

    Raises:
        DataError: a file is missing or damaged, or the predictions do not belong to the result.
    """
    missing = f"is missing; {expected}"
    result = read_result(folder / RESULT, missing=missing)
    path, task = folder / PREDICTIONS, find_task(result.get("task"))
    # The task makes arrays of that length; that there is no file, the reader of its lines says.
    if path.is_file() and result["images"] > path.stat().st_size:
        raise _not_of_result(path, f"{result['images']} images cannot be in it")
    try:
        evaluation: Reported = task.presentation.collect(name, result, _rows(folder, result, task, missing, progress))
    except Unfit as error:
        raise _not_of_result(path, str(error)) from error
    if len(evaluation.paths) != result["images"]:
        raise _not_of_result(path, f"{len(evaluation.paths)} images; expected {result['images']}")
    return evaluation


def _rows(
    folder: Path, result: Mapping[str, Any], task: Task, missing: str, progress: Callable[[int], None] | None
) -> Iterator[Any]:
    """Yield the rows one by one: those of 50,000 images would need several times the memory of their columns."""

    def read_row(value: Any, place: int) -> Any:
        if place >= result["images"]:
            raise _not_of_result(folder / PREDICTIONS, f"more than {result['images']} images")
        if progress:
            progress(place + 1)
        return task.evaluation.read_row(value, place, result, None)

    return predictions_of(folder, read_row, missing)


def _not_of_result(path: Path, problem: str) -> DataError:
    return DataError(f"{path} is not of the {RESULT} beside it: {problem}; evaluate again")
