"""Paddle as it is trained: the network itself, run eagerly. The other runtimes are compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import paddle

from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec


def forward(network: paddle.nn.Layer, batch: Floats) -> Outputs:
    """Return the outputs, each [N, ...], of a network in evaluation mode."""
    with paddle.no_grad():
        outputs = network(paddle.to_tensor(batch))
    tensors = [outputs] if isinstance(outputs, paddle.Tensor) else outputs
    return tuple(np.asarray(tensor.numpy()) for tensor in tensors)


class PaddleEager:
    """The network on a CPU or GPU."""

    def __init__(self, spec: RuntimeSpec) -> None:
        paddle.set_device(spec.device)
        self._network = network_of(read_weights(spec.folder / spec.file))

    def predict(self, batch: Floats) -> Outputs:
        return forward(self._network, batch)
