"""Run a network on a batch of images: one small interface, one module for each engine behind it.

A network is first written in a format (``mobilenext.export``), then opened from its folder by any number of
processes (``open_runtime``). The module of an engine is imported when it is chosen.
"""

from mobilenext.runtime.choice import Candidate, check_precision, likely_runtime, resolve_device, resolve_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.interface import Runtime, outputs_of
from mobilenext.runtime.opening import import_runtime, open_runtime
from mobilenext.runtime.table import (
    AUTOMATIC,
    ENGINES,
    GPU_ENGINES,
    PRECISIONS,
    RUNTIMES,
    RuntimeCard,
    RuntimeSpec,
)

__all__ = [
    "AUTOMATIC",
    "ENGINES",
    "GPU_ENGINES",
    "PRECISIONS",
    "RUNTIMES",
    "Candidate",
    "Form",
    "Runtime",
    "RuntimeCard",
    "RuntimeSpec",
    "check_precision",
    "import_runtime",
    "likely_runtime",
    "open_runtime",
    "outputs_of",
    "resolve_device",
    "resolve_runtime",
]
