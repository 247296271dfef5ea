"""The tasks by name: the only place that knows the protocols and their implementations."""

from __future__ import annotations

import importlib
from pathlib import Path

from mobilenext.errors import DataError, UsageError, nearest
from mobilenext.task import Task

DEFAULT = "classification"  # of files that name no task

_HOMES = {  # imported when they are asked for
    "classification": "mobilenext.classification.task",
    "detection": "mobilenext.detection.task",
    "search": "mobilenext.search.task",
}
_REGISTERED: dict[str, Task] = {}


def register(name: str, task: Task) -> None:
    """Add a task, or replace one."""
    _REGISTERED[name] = task


def task_names() -> list[str]:
    """Return the names of all tasks, this package's first."""
    return list(dict.fromkeys((*_HOMES, *_REGISTERED)))


def find_task(name: str | None = None) -> Task:
    """Return the task of this name; None means classification.

    Raises:
        UsageError: no such task; the nearest name is given.
    """
    name = DEFAULT if name is None else name
    if name not in _REGISTERED:
        if name not in _HOMES:
            known = sorted(task_names())
            raise UsageError(f"unknown task {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        _REGISTERED[name] = importlib.import_module(_HOMES[name]).TASK
    return _REGISTERED[name]


def task_of_file(name: str | None, path: Path) -> Task:
    """Return the task that is stored in the file or folder `path`.

    Raises:
        DataError: no such task: the file may be of a later version.
    """
    try:
        return find_task(name)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error


def task_of_data(root: Path, list_file: Path | None = None) -> Task:
    """Return the task that recognizes the layout of a data set; without one, the task of files that name none."""
    for name in sorted({*_HOMES, *_REGISTERED}):
        task = find_task(name)
        if task.data_check and task.data_check.recognizes and task.data_check.recognizes(root, list_file):
            return task
    return find_task(DEFAULT)
