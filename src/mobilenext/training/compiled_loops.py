"""Run compiled loops on the memory of tensors, on the threads that Paddle's own kernels use."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import paddle

from mobilenext.arrays import Floats
from mobilenext.machine.process_environment import openmp_threads


def array_of(tensor: paddle.Tensor) -> Floats:
    """Return the tensor's own memory, float32 on a CPU, as an array [...]; Tensor.numpy() would copy it."""
    shape = tensor.shape
    values = (ctypes.c_float * math.prod(shape)).from_address(tensor.data_ptr())  # Tensor.size takes longer than all
    # The array keeps the tensor. Else an exception in one thread could free memory that the others still write to.
    vars(values)["tensor"] = tensor
    return np.frombuffer(values, np.float32).reshape(shape)


def contiguous(tensor: paddle.Tensor) -> paddle.Tensor:
    """Return the tensor with its numbers in order in memory, which is how `array_of` takes them."""
    return tensor.contiguous() if hasattr(tensor, "contiguous") else tensor  # without it, all tensors are


def can_take(x: paddle.Tensor, weight: paddle.Tensor, channels: int) -> bool:
    """Return whether the loops can take x [N, C, H, W] and a weight of a layer of so many channels.

    They check nothing. All else is left to Paddle, which knows what to do, or what to say: other types, other devices,
    an empty batch, and what does not fit the layer.
    """
    shape = x.shape
    fits = len(shape) == 4 and shape[1] == channels and 0 not in shape
    on_cpu = x.place.is_cpu_place() and weight.place.is_cpu_place()
    return bool(fits and on_cpu and x.dtype == weight.dtype == paddle.float32)


@cache
def _threads() -> ThreadPoolExecutor | None:
    """Return threads that share the channels, as many as Paddle's own kernels use; None for one."""
    count = openmp_threads()
    return ThreadPoolExecutor(count) if count > 1 else None


def over_channels(kernel: Callable[..., None], arrays: tuple[Floats, ...], settings: tuple[Any, ...]) -> None:
    """Run ``kernel(arrays, settings, begin, end)`` on all channels of `arrays`, of which x [N, C, ...] is the first.

    No channel depends on another, so the result does not depend on the threads.
    """
    channels = arrays[0].shape[1]
    threads = _threads()
    if threads is None:
        kernel(arrays, settings, 0, channels)
        return
    share = -(-channels // threads._max_workers)  # rounded up: the last thread may have fewer

    def run(first: int) -> None:
        kernel(arrays, settings, first, min(first + share, channels))

    for _ in threads.map(run, range(0, channels, share)):
        pass  # an exception of a thread is raised here
