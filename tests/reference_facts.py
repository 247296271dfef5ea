"""What PyTorch and Paddle are both given to train with in the reproduction, and how gradients are sampled.

Neither framework is imported here: scripts/reference_training.py runs where there is no Paddle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golden import GOLDENS, uniform

REFERENCE = GOLDENS / "reproduction" / "training_reference.npz"  # written by scripts/reference_training.py
STARTS = ("formula", "trained")  # the weights that training starts from: the formula's, and TRAINED
TRAINED = Path(__file__).parents[1] / "src/mobilenext/weights/bundled/mobilenext_x0_35.tiny20.safetensors"
BATCH, SIZE, CLASSES = 8, 64, 20
STEPS, RATE, MOMENTUM, WEIGHT_DECAY, SMOOTHING = 10, 0.05, 0.9, 1e-4, 0.1
ENTRIES = 64


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images [8, 3, 64, 64] float32 and labels [8]."""
    values = (uniform("train-64", BATCH * 3 * SIZE * SIZE) - 0.5) * 4
    return values.reshape(BATCH, 3, SIZE, SIZE).astype(np.float32), (7 * np.arange(BATCH) + 3) % CLASSES


def sample(name: str, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of the gradient of a parameter, in PyTorch's name and layout.

    The projection on a fixed vector with a variance of 1 depends on every entry: an error of the whole gradient, as a
    part of its norm, moves the projection by about as much.
    """
    flat = gradient.astype(np.float64).ravel()
    entries = np.full(ENTRIES, np.nan)
    places = np.unique(np.linspace(0, flat.size - 1, ENTRIES).astype(int))
    entries[: len(places)] = flat[places]
    direction = (uniform(f"projection {name}", flat.size) - 0.5) * np.sqrt(12)
    return {
        "norm": np.linalg.norm(flat),
        "mean": flat.mean(),
        "largest": np.abs(flat).max(),
        "projection": flat @ direction,
        "entries": entries,
    }
