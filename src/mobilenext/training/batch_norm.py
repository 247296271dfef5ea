"""Batch norms that train fast on a CPU, with the ReLU6 or ReLU behind them.

Paddle's own takes several passes over the map in each direction, and the activation two more, which need memory of
their own. Here both are one operator, the compiled loops of `batch_norm_kernels` and `batch_norm_small_maps`. Results
stay what they were, up to the order of a sum: the running variance is the biased one, over N values, as Paddle's.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from mobilenext.training import batch_norm_kernels, batch_norm_small_maps
from mobilenext.training.compiled_loops import array_of, can_take, contiguous, over_channels

SMALL = 32  # pixels of a map, below which several channels are done at a time


class Limits(NamedTuple):
    """Between which the result is cut, as an activation does."""

    low: float
    high: float


NO_LIMITS = Limits(-math.inf, math.inf)
ACTIVATIONS = {nn.ReLU6: Limits(0, 6), nn.ReLU: Limits(0, math.inf)}


def can_be_compiled(layer: nn.BatchNorm2D, x: paddle.Tensor) -> bool:
    """Return whether a batch norm takes statistics of x [N, C, H, W], and the loops can take x."""
    if not layer.training or layer._use_global_stats or layer.weight is None or layer.bias is None:
        return False
    # A channel of a single value has no statistics: Paddle leaves it as it is.
    return can_take(x, layer.weight, layer._num_features) and x.shape[0] * x.shape[2] * x.shape[3] > 1


def is_small(x: paddle.Tensor) -> bool:
    """Return whether the maps of x [N, C, H, W] are so small that several channels are done at a time."""
    return bool(x.shape[2] * x.shape[3] < SMALL)


def batch_norm(
    layer: nn.BatchNorm2D, x: paddle.Tensor, limits: Limits = NO_LIMITS, factor: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Return x [N, C, H, W] normalized by its own statistics, and cut to `limits`; `can_be_compiled` holds.

    The layer's running statistics take part, as in Paddle. `factor` is a number that weight and bias are multiplied by.
    """
    weight, bias = layer.weight, layer.bias
    if factor is not None:
        weight, bias = weight * factor, bias * factor
    return _BatchNorm.apply(x, weight, bias, layer, limits)


class _BatchNorm(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, layer: nn.BatchNorm2D, limits: Limits
    ) -> paddle.Tensor:
        x = contiguous(x)
        y, statistics = paddle.empty_like(x), paddle.empty([2, x.shape[1]], x.dtype)
        arrays = (_maps(x), array_of(weight), array_of(bias), _maps(y), array_of(statistics))
        settings = (layer._momentum, layer._epsilon, *_float32(limits))
        over_channels(_loops(x).normalize, (*arrays, array_of(layer._mean), array_of(layer._variance)), settings)
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.limits = limits
        return y

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight, bias, statistics = ctx.saved_tensor()
        of_x, of_weight, of_bias = paddle.empty_like(x), paddle.empty_like(weight), paddle.empty_like(bias)
        arrays = (_maps(x), array_of(weight), array_of(bias), array_of(statistics))
        gradients = (_maps(contiguous(gradient)), _maps(of_x), array_of(of_weight), array_of(of_bias))
        over_channels(_loops(x).differentiate, (*arrays, *gradients), _float32(ctx.limits))
        pairs = ((x, of_x), (weight, of_weight), (bias, of_bias))
        # Paddle wants None for what has no gradient, such as frozen weights.
        return tuple(None if tensor.stop_gradient else of_tensor for tensor, of_tensor in pairs)


def _loops(x: paddle.Tensor) -> ModuleType:
    """Return the module whose loops are the faster ones for maps of this size."""
    return batch_norm_small_maps if is_small(x) else batch_norm_kernels


def _float32(limits: Limits) -> tuple[np.float32, np.float32]:
    return np.float32(limits.low), np.float32(limits.high)


def _maps(tensor: paddle.Tensor) -> Any:
    """Return the tensor's own memory [N, C, H, W] as [N, C, H * W]."""
    return array_of(tensor).reshape(*tensor.shape[:2], -1)
