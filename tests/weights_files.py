"""Files of weights with random tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

GOLDENS = Path(__file__).parent / "goldens"


def pytorch_tensors(recording: str = "mobilenext_x0.35_20classes_64px") -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of a recorded PyTorch network."""
    random = np.random.default_rng(1)
    keys = json.loads((GOLDENS / f"{recording}.json").read_text())["keys"]
    return {
        key: np.full(shape, 3, np.int64) if key.endswith("tracked") else random.random(shape, np.float32)
        for key, shape in keys
    }


def save(path: Path, changes: dict[str, np.ndarray | None], **metadata: str) -> Path:
    """`pytorch_tensors` with other values for some names; None leaves one out."""
    tensors = {key: tensor for key, tensor in (pytorch_tensors() | changes).items() if tensor is not None}
    safetensors.numpy.save_file(tensors, path, metadata=metadata or None)
    return path
