"""What a run will take, measured before it begins: a forward and a backward pass on blank images."""

from __future__ import annotations

import time
from typing import NamedTuple

import paddle
from paddle import nn

from mobilenext.machine.environment import peak_memory_mib
from mobilenext.recipe import Recipe
from mobilenext.training.validation import as_tuple


class Rehearsal(NamedTuple):
    """The cost of a step in this process."""

    seconds: float  # of the passes through the network; reading, loss and optimizer are not in it
    peak_memory_mib: float  # of the process, images in memory included


def rehearse(network: nn.Layer, recipe: Recipe, processes: int) -> Rehearsal:
    """Measure the passes of one step; the network, in training mode, stays as it is.

    It runs in evaluation mode, so that no statistics change. The first of two passes warms up: it compiles loops and
    fills caches.
    """
    images, size = max(1, recipe.batch_size // recipe.accumulate // processes), recipe.preprocessing.image_size
    network.eval()
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        outputs = as_tuple(network(paddle.zeros([images, 3, size, size])))
        total = paddle.add_n([output.astype("float32").mean() for output in outputs])
        total.backward()
        total.item()  # waits for a device
        seconds = time.perf_counter() - started
    for parameter in network.parameters():
        parameter.clear_gradient(set_to_zero=False)
    network.train()
    return Rehearsal(seconds * recipe.accumulate, peak_memory_mib())
