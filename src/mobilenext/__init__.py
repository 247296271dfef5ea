"""MobileNeXt on PaddlePaddle: the models, checkpoint conversion, training, and an evaluation to trust.

    import mobilenext
    network = mobilenext.create_model("mobilenext_x1_0", weights="mobilenext_x1_0.safetensors")

Importing this package is light; Paddle is imported by what computes.
"""

from __future__ import annotations

import importlib
from typing import Any

from mobilenext.version import __version__

_HOMES = {
    "Preprocessing": "mobilenext.data",
    "convert_checkpoint": "mobilenext.weights.convert",
    "create_model": "mobilenext.weights.pretrained",
    "evaluate": "mobilenext.evaluation.run",
    "export_model": "mobilenext.exporting",
    "list_models": "mobilenext.models",
    "load_weights": "mobilenext.weights.load",
    "predict": "mobilenext.evaluation.prediction",
    "read_weights": "mobilenext.weights.read",
    "train": "mobilenext.training.run",
}
__all__ = [
    "Preprocessing",
    "__version__",
    "convert_checkpoint",
    "create_model",
    "evaluate",
    "export_model",
    "list_models",
    "load_weights",
    "predict",
    "read_weights",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("detection", "search"):  # packages, reachable without an import of their own
        return importlib.import_module(f"mobilenext.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilenext' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
