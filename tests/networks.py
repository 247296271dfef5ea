"""Networks whose every tensor matters, and their logits."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn


def give_statistics(network: nn.Layer) -> None:
    """Means, variances, scales and shifts that a forgotten or swapped one would show up in."""
    for number, layer in enumerate(network.sublayers()):
        if isinstance(layer, nn.BatchNorm2D):
            random = np.random.default_rng(number)
            for tensor, low, high in (
                (layer._mean, -0.3, 0.3), (layer._variance, 0.3, 2), (layer.weight, 0.5, 1.5), (layer.bias, -0.3, 0.3),
            ):  # fmt: skip
                values = random.uniform(low, high, tensor.shape)
                tensor.set_value(paddle.to_tensor(values).astype(tensor.dtype))


def logits(network: nn.Layer, batch: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return np.asarray(network(paddle.to_tensor(batch)).numpy())
