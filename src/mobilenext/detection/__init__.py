"""Detection of objects: what its training, evaluation and answers are made of. A name is imported when it is used."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "average_precision": "mobilenext.detection.metrics",
}
__all__ = ["average_precision"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilenext.detection' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
