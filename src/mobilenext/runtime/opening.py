"""Open a network with its runtime. Nothing of a runtime is imported before it is chosen."""

from __future__ import annotations

import contextlib
import importlib
import io

from mobilenext.machine.packages import require, require_paddle
from mobilenext.runtime.form import Adapted
from mobilenext.runtime.interface import Runtime
from mobilenext.runtime.table import RUNTIMES, RuntimeSpec


def open_runtime(spec: RuntimeSpec) -> Runtime:
    """Open a network in this process.

    Raises:
        MissingDependency: its package is not installed. DataError: the file is damaged.
    """
    card = RUNTIMES[spec.runtime]
    if card.package != "paddle":
        require([card.package], card.extra, f"runtime {card.name}")
    if card.package == "paddle":
        require_paddle()
    with contextlib.redirect_stderr(io.StringIO()):
        module = importlib.import_module(f"mobilenext.runtime.{card.module}")
    runtime: Runtime = getattr(module, card.factory)(spec)
    return runtime if spec.form is None else Adapted(runtime, spec.form)
