"""Detection of objects: what its training, evaluation and answers are made of.

    from mobilenext import detection
    boxes = detection.decode(scores, regressions, form="voc")

Importing this package is light; NumPy and Paddle are imported by what computes.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "FORMS": "mobilenext.models.detector_form",
    "Form": "mobilenext.models.detector_form",
    "average_precision": "mobilenext.detection.metrics",
    "decode": "mobilenext.detection.decoding",
    "losses": "mobilenext.detection.loss",
    "preprocess": "mobilenext.detection.preprocessing",
    "prior_boxes": "mobilenext.detection.priors",
}
__all__ = ["FORMS", "Form", "average_precision", "decode", "losses", "preprocess", "prior_boxes"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilenext.detection' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
