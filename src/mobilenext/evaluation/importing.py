"""What workers import while the network is prepared. This module is light: a worker imports it before its turn."""

from __future__ import annotations

import importlib
from pathlib import Path

from filelock import FileLock

FEW_CORES = 4


def import_in_turn(lock: Path, runtime: str | None, cores: int) -> None:
    """Import what the next calls of a worker need, and a runtime, if any.

    Where there are few cores, one worker at a time does so: together they would slow down the process that prepares
    the network, for which all of them wait.

    Args:
        lock: a file in a folder of the evaluation, the same for all its workers.
        runtime: name; None: the worker does not predict.
        cores: that the evaluation may use.
    """
    if cores > FEW_CORES:
        _import(runtime)
        return
    with FileLock(lock):
        _import(runtime)


def _import(runtime: str | None) -> None:
    importlib.import_module("mobilenext.evaluation.pipeline")
    from mobilenext.runtime import import_runtime

    if runtime is not None:
        import_runtime(runtime)
