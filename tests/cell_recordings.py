"""What the authors' PyTorch code of DARTS computes for formula weights, alphas and images (tests/goldens/search)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from golden import GOLDENS, formula_weights, uniform

if TYPE_CHECKING:
    import paddle

FOLDER = GOLDENS / "search"


def recorded(name: str) -> tuple[Any, Mapping[str, np.ndarray]]:
    """The JSON of a recording and its arrays."""
    arrays = FOLDER / f"{name}.npz"
    return json.loads((FOLDER / f"{name}.json").read_text()), np.load(arrays) if arrays.exists() else {}


def recorded_keys(name: str) -> list[tuple[str, str]]:
    """Name and shape of every tensor of the authors' network, in order."""
    lines = gzip.decompress((FOLDER / f"{name}_keys.txt.gz").read_bytes()).decode().splitlines()
    return [tuple(line.split()) for line in lines]  # type: ignore[misc]


def keys_of(network: paddle.nn.Layer) -> list[tuple[str, str]]:
    """Name and shape, as PyTorch has them, of every tensor of ours, but for the alphas."""
    from mobilenext.weights.naming import entries_of

    shapes = [(entry.pytorch_name, entry.shape("pytorch")) for entry in entries_of(network, training=True)]
    return [(name, "x".join(map(str, shape))) for name, shape in shapes if not name.startswith("alphas_")]


def set_formula_weights(network: paddle.nn.Layer) -> None:
    """Set every tensor but the alphas."""
    from mobilenext.weights.naming import entries_of

    state = network.state_dict()
    entries = [entry for entry in entries_of(network, training=True) if not entry.pytorch_name.startswith("alphas_")]
    values = formula_weights([(entry.pytorch_name, list(entry.shape("pytorch"))) for entry in entries], "cells")
    for entry in entries:
        value = values[entry.pytorch_name]
        tensor = state[entry.paddle_name]
        tensor.set_value((value.T if entry.transposed else value).astype(tensor.numpy().dtype))


def formula_alphas(key: str, columns: int, scale: float) -> np.ndarray:
    return ((uniform(key, 14 * columns) - 0.5) * scale).reshape(14, columns).astype(np.float32)


def set_formula_alphas(network: Any, tag: str, scale: float) -> None:
    for name, tensor in network.alphas.items():
        values = formula_alphas(f"{tag}-{name}", len(network.operators), scale)
        tensor.set_value(values.astype(tensor.numpy().dtype))


def formula_maps(key: str, *shape: int) -> np.ndarray:
    return ((uniform(key, int(np.prod(shape))) - 0.5) * 4).reshape(shape).astype(np.float32)


def formula_labels(key: str, count: int) -> np.ndarray:
    return np.floor(uniform(key, count) * 10).astype(np.int64)
