"""Search for architectures: what a search reads from its alphas, and the networks that come of it.

    from mobilenext import search
    genotype = search.read_genotype(alphas_normal, alphas_reduce, operators=names)
    network = search.build_cell_network(genotype, form="cifar", channels=36, cells=20, num_classes=10)

Importing this package is light; NumPy and Paddle are imported by what computes.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "build_cell_network": "mobilenext.models.build",
    "read_genotype": "mobilenext.models.genotype",
    "search_architecture": "mobilenext.search.run",
}
__all__ = ["build_cell_network", "read_genotype", "search_architecture"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilenext.search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
