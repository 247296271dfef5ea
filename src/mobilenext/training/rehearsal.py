"""What a run will take, measured before it begins: a forward and a backward pass on blank images."""

from __future__ import annotations

import time
from typing import NamedTuple

import paddle
from paddle import nn

from mobilenext.errors import UsageError
from mobilenext.machine.environment import free_memory_mib, peak_memory_mib
from mobilenext.recipe import Recipe
from mobilenext.training.validation import as_tuple


class Rehearsal(NamedTuple):
    """The cost of a step in this process."""

    seconds: float  # of the passes through the network; reading, loss and optimizer are not in it
    peak_memory_mib: float  # of the process, images in memory included


def rehearse(network: nn.Layer, recipe: Recipe, processes: int) -> Rehearsal:
    """Measure the passes of one step; the network, in training mode, stays as it is.

    It runs in evaluation mode, so that no statistics change. The first of two passes warms up: it compiles loops and
    fills caches. On a CPU, small batches come before them, which tell whether there is room for a whole one.

    Raises:
        UsageError: a step needs more memory than is free.
    """
    images, size = max(1, recipe.batch_size // recipe.accumulate // processes), recipe.preprocessing.image_size
    network.eval()
    try:
        if paddle.device.get_device() == "cpu":
            _check_memory(network, images, size)
        seconds = 0.0
        for _ in range(2):
            started = time.perf_counter()
            _pass(network, images, size)
            seconds = time.perf_counter() - started
    finally:
        for parameter in network.parameters():
            parameter.clear_gradient(set_to_zero=False)
        network.train()
    return Rehearsal(seconds * recipe.accumulate, peak_memory_mib())


def _pass(network: nn.Layer, images: int, size: int) -> None:
    outputs = as_tuple(network(paddle.zeros([images, 3, size, size])))
    total = paddle.add_n([output.astype("float32").mean() for output in outputs])
    total.backward()
    total.item()  # waits for a device


def _check_memory(network: nn.Layer, images: int, size: int) -> None:
    """Raise UsageError where a pass of `images` would need more memory than is free, judged by two smaller ones."""
    if images < 8:
        return
    peaks = []
    for part in (images // 8, images // 4):
        _pass(network, part, size)
        peaks.append(paddle.base.core.host_memory_stat_peak_value("Allocated", 0) / 2**20)
    # What a pass keeps for its gradients grows with the number of images.
    more = (peaks[1] - peaks[0]) / (images // 4 - images // 8) * (images - images // 4)
    free = free_memory_mib()
    if free is not None and more > free:
        raise UsageError(
            f"a step of {images} images needs about {more + peaks[1]:,.0f} MiB, but {free:,.0f} MiB are free; "
            "expected a smaller batch or network: --set batch_size=N, or accumulate=N, which takes a batch in parts"
        )
