"""Paddle as it is trained: the network itself, run eagerly. The reference that the other runtimes are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import paddle

from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights

if TYPE_CHECKING:
    from mobilenext.arrays import Floats
    from mobilenext.runtime import RuntimeSpec


def forward(network: paddle.nn.Layer, batch: Floats) -> Floats:
    """Logits [N, classes] of a network in evaluation mode."""
    with paddle.no_grad():
        return np.asarray(network(paddle.to_tensor(batch)).numpy())


class PaddleEager:
    """The network on a CPU or GPU."""

    def __init__(self, spec: RuntimeSpec) -> None:
        paddle.set_device(spec.device)
        self._network = network_of(read_weights(spec.folder / spec.file))

    def predict(self, batch: Floats) -> Floats:
        return forward(self._network, batch)
