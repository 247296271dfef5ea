"""1x1 convolutions that train fast on a CPU: one matrix product of all images.

Paddle multiplies the weights [O, C] with one image [C, H * W] after another. With maps of few pixels these products
are too small to be fast. All images side by side are one large product:

    [N, C, P] -> [C, N * P]    y = W x    gradient of x = W^T dy    gradient of W = dy x^T

Paddle multiplies; the copies are compiled loops (`pointwise_kernels`), as its own would take longer than they save.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from mobilenext.training.compiled_loops import array_of, contiguous, over_channels
from mobilenext.training.pointwise_kernels import put_apart, put_side_by_side


def is_pointwise(layer: nn.Layer) -> bool:
    """Return whether a layer is a 1x1 convolution at stride 1 without padding, groups or bias."""
    return bool(
        isinstance(layer, nn.Conv2D)
        and list(layer.weight.shape[2:]) == [1, 1]
        and list(layer._stride) == [1, 1]
        and layer._padding in (0, [0, 0])
        and (layer._groups, layer._data_format) == (1, "NCHW")
        and layer.bias is None
    )


def pays(x: paddle.Tensor, weight: paddle.Tensor) -> bool:
    """Return whether the product of all images is the faster one, as it was measured: the weights outweigh the maps."""
    inputs, outputs, pixels = x.shape[1], weight.shape[0], x.shape[2] * x.shape[3]
    return bool(inputs * outputs > (inputs + outputs) * pixels)


def pointwise_conv2d(x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """Convolve x [N, C, H, W] with weight [O, C, 1, 1]: float32, on a CPU.

    Returns:
        [N, O, H, W], differentiable by x and by weight.
    """
    return _Pointwise.apply(x, weight)


class _Pointwise(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        columns = _side_by_side(x)
        ctx.save_for_backward(columns, weight)
        ctx.shape, ctx.frozen = x.shape, x.stop_gradient
        return _apart(weight.flatten(1) @ columns, x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        columns, weight = ctx.saved_tensor()
        of_columns = _side_by_side(gradient)
        of_x = of_weight = None  # Paddle wants None for what has no gradient, such as frozen weights
        if not ctx.frozen:
            of_x = _apart(paddle.matmul(weight.flatten(1), of_columns, transpose_x=True), ctx.shape)
        if not weight.stop_gradient:
            of_weight = paddle.matmul(of_columns, columns, transpose_y=True).reshape(weight.shape)
        return of_x, of_weight


def _side_by_side(maps: paddle.Tensor) -> paddle.Tensor:
    """[N, C, H, W] to [C, N * H * W]."""
    images, channels, *size = maps.shape
    pixels = math.prod(size)
    columns = paddle.empty([channels, images * pixels], maps.dtype)
    source, target = array_of(contiguous(maps)), array_of(columns)
    arrays = (source.reshape(images, channels, pixels), target.reshape(channels, images, pixels))
    over_channels(put_side_by_side, arrays, ())
    return columns


def _apart(columns: paddle.Tensor, shape: Sequence[int]) -> paddle.Tensor:
    """[C, N * H * W] to [N, C, H, W], of which `shape` has N, H and W."""
    images, _, *size = shape
    channels, pixels = columns.shape[0], math.prod(size)
    maps = paddle.empty([images, channels, *size], columns.dtype)
    target, source = array_of(maps), array_of(columns)
    arrays = (target.reshape(images, channels, pixels), source.reshape(channels, images, pixels))
    over_channels(put_apart, arrays, ())
    return maps
