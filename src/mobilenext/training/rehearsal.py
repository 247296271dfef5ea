"""What a run will take, measured before it begins: a forward and a backward pass on blank images."""

from __future__ import annotations

import time
from typing import NamedTuple

import paddle
from paddle import nn

from mobilenext.errors import UsageError
from mobilenext.machine.environment import free_memory_mib, peak_memory_mib
from mobilenext.recipe import Recipe
from mobilenext.training.optimization import drop_gradients
from mobilenext.training.validation import as_tuple


class Rehearsal(NamedTuple):
    """The cost of a step in this process."""

    seconds: float  # of the passes through the network; reading, loss and optimizer are not in it
    peak_memory_mib: float  # of the process, images in memory included


def rehearse(network: nn.Layer, recipe: Recipe, processes: int) -> Rehearsal:
    """Measure the passes of one step; the network, in training mode, stays as it is.

    It runs in evaluation mode, so that no statistics change. The first of two passes warms up: it compiles loops and
    fills caches. On a CPU, small batches come before them, which tell whether there is room for a whole one: of one
    image, of two, and so on, each only after those before it have left room for it.

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
        drop_gradients(network.parameters())
        network.train()
    return Rehearsal(seconds * recipe.accumulate, peak_memory_mib())


def _pass(network: nn.Layer, images: int, size: int) -> None:
    outputs = as_tuple(network(paddle.zeros([images, 3, size, size])))
    total = paddle.add_n([output.astype("float32").mean() for output in outputs])
    total.backward()
    total.item()  # waits for a device


def _check_memory(network: nn.Layer, images: int, size: int) -> None:
    """Raise UsageError where a pass of `images` would need more memory than is free, judged by smaller ones."""
    if reset := getattr(paddle.base.core, "host_memory_stat_reset_peak_value", None):  # Paddle 2.6 has none
        reset("Allocated", 0)
    part, before = 1, None
    while 2 * part <= images:
        _pass(network, part, size)
        peak = paddle.base.core.host_memory_stat_peak_value("Allocated", 0) / 2**20
        if before is not None:
            # What a pass keeps for its gradients grows with the number of images.
            check_room(images, peak, (peak - before) / (part / 2) * (images - part))
        part, before = 2 * part, peak


def check_room(images: int, taken: float, more: float) -> None:
    """Raise UsageError where a step of `images` would need `more` MiB than is free, beside those already `taken`."""
    free = free_memory_mib()
    if free is not None and more > free:
        raise UsageError(
            f"a step of {images} images needs about {more + taken:,.0f} MiB, but {free:,.0f} MiB are free; "
            "expected a smaller batch or network: --set batch_size=N, or accumulate=N, which takes a batch in parts"
        )
