"""The recorded outputs of the original PyTorch networks (tests/goldens), and the formula that makes their weights."""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import paddle

GOLDENS = Path(__file__).parent / "goldens"


def uniform(key: str, n: int) -> np.ndarray:
    """n float64 values in [0, 1): SplitMix64's output function on crc32(key) * 2^32 + i."""
    with np.errstate(over="ignore"):
        x = (np.uint64(zlib.crc32(key.encode())) << np.uint64(32)) + np.arange(n, dtype=np.uint64)
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def formula_weights(keys: list[tuple[str, list[int]]], model: str) -> dict[str, np.ndarray]:
    """The weights of a recording, in PyTorch's names and layouts."""
    gain = {"mobilenext_s": 18.0, "mobilenext_l": 18.0, "mobilenext_l_ghost": 18.0, "ssdlite": 15.0}.get(model, 24.0)
    tensors = {}
    for key, shape in keys:
        leaf = key.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            tensors[key] = np.zeros(shape, np.int64)
            continue
        u = uniform(key, int(np.prod(shape)))
        if len(shape) == 4:
            values = (u - 0.5) * np.sqrt(gain / (shape[1] * shape[2] * shape[3]))
        elif len(shape) == 2:
            values = (u - 0.5) * np.sqrt(12 / shape[1])
        else:
            values = 0.5 + u if leaf in ("weight", "running_var") else 0.4 * (u - 0.5)
        tensors[key] = values.reshape(shape).astype(np.float32)
    return tensors


def formula_images(size: int) -> paddle.Tensor:
    import paddle  # here, because scripts/reference_training.py uses the formula where there is no Paddle

    values = (uniform(f"input-{size}", 2 * 3 * size * size) - 0.5) * 4
    return paddle.to_tensor(values.reshape(2, 3, size, size).astype(np.float32))


def recording(name: str) -> tuple[dict[str, Any], np.ndarray]:
    return json.loads((GOLDENS / f"{name}.json").read_text()), np.load(GOLDENS / f"{name}.npz")["logits"]


def computed_logits(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What our network computes of a recording's weights and images, in float32 and in float64."""
    import paddle
    import safetensors.numpy

    from mobilenext.weights.load import network_of
    from mobilenext.weights.read import read_weights

    divisor = int(name.rpartition("_div")[2]) if "_div" in name else 1
    images = formula_images(64 if "64px" in name else 224)
    with tempfile.TemporaryDirectory() as folder, paddle.no_grad():
        file = Path(folder) / "formula.safetensors"
        safetensors.numpy.save_file(formula_weights(recording(name)[0]["keys"], name), file)
        network = network_of(read_weights(file, identity_divisor=divisor))
        single = network(images).numpy()
        double = network.to(dtype="float64")(images.astype("float64")).numpy()
    assert double.dtype == np.float64
    return single, double
