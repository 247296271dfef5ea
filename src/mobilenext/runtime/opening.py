"""Open a network with its runtime. Nothing of a runtime is imported before it is chosen."""

from __future__ import annotations

import contextlib
import importlib
import io
from types import ModuleType

from mobilenext.machine.packages import require, require_paddle
from mobilenext.runtime.form import Adapted
from mobilenext.runtime.interface import Runtime
from mobilenext.runtime.table import RUNTIMES, RuntimeSpec


def open_runtime(spec: RuntimeSpec) -> Runtime:
    """Open a network in this process.

    Raises:
        MissingDependency: its package is not installed. DataError: the file is damaged.
    """
    runtime: Runtime = getattr(import_runtime(spec.runtime), RUNTIMES[spec.runtime].factory)(spec)
    return runtime if spec.form is None else Adapted(runtime, spec.form)


def import_runtime(name: str) -> ModuleType:
    """Import the module that opens networks with a runtime, and with it the runtime's package.

    Raises:
        MissingDependency: the package is not installed.
    """
    card = RUNTIMES[name]
    if card.package == "paddle":
        require_paddle()
    else:
        require([card.package], card.extra, f"runtime {card.name}")
    with contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(f"mobilenext.runtime.{card.module}")
