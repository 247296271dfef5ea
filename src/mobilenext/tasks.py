"""The tasks by name: the only place that knows the protocols and their implementations."""

from __future__ import annotations

import importlib

from mobilenext.errors import UsageError, nearest
from mobilenext.task import Task

DEFAULT = "classification"  # of files that name no task

_HOMES = {"classification": "mobilenext.classification.task"}  # imported when they are asked for
_REGISTERED: dict[str, Task] = {}


def register(name: str, task: Task) -> None:
    """Add a task, or replace one."""
    _REGISTERED[name] = task


def find_task(name: str | None = None) -> Task:
    """Return the task of this name; None means classification.

    Raises:
        UsageError: no such task; the nearest name is given.
    """
    name = DEFAULT if name is None else name
    if name not in _REGISTERED:
        if name not in _HOMES:
            known = sorted({*_HOMES, *_REGISTERED})
            raise UsageError(f"unknown task {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        _REGISTERED[name] = importlib.import_module(_HOMES[name]).TASK
    return _REGISTERED[name]
