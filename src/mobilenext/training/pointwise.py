"""1x1 convolutions that train fast on a CPU: one matrix product of all images.

Paddle multiplies the weights [O, C] with one image [C, H * W] after another. With maps of few pixels these products
are too small to be fast. All images side by side are one large product:

    [N, C, P] -> [C, N * P]    y = W x    gradient of x = W^T dy    gradient of W = dy x^T
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer


def is_pointwise(layer: nn.Layer) -> bool:
    """Return whether a layer is a 1x1 convolution at stride 1 without padding, groups or bias."""
    return bool(
        isinstance(layer, nn.Conv2D)
        and list(layer.weight.shape[2:]) == [1, 1]
        and list(layer._stride) == [1, 1]
        and layer._padding in (0, [0, 0])
        and (layer._groups, layer._data_format, layer.bias) == (1, "NCHW", None)
    )


def pointwise_conv2d(x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """Return the 1x1 convolution of x [N, C, H, W] with weight [O, C, 1, 1]: [N, O, H, W], differentiable by both."""
    return _Pointwise.apply(x, weight)


def pays(x: paddle.Tensor, weight: paddle.Tensor) -> bool:
    """Return whether the product of all images is the faster one, as it was measured: the weights outweigh the maps."""
    inputs, outputs, pixels = x.shape[1], weight.shape[0], x.shape[2] * x.shape[3]
    return bool(inputs * outputs > (inputs + outputs) * pixels)


class _Pointwise(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, weight)
        return _apart(weight.flatten(1) @ _side_by_side(x), x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        x, weight = ctx.saved_tensor()
        columns = _side_by_side(gradient)
        of_x = of_weight = None  # Paddle wants None for what has no gradient, such as frozen weights
        if not x.stop_gradient:
            of_x = _apart(paddle.matmul(weight.flatten(1), columns, transpose_x=True), x.shape)
        if not weight.stop_gradient:
            of_weight = paddle.matmul(columns, _side_by_side(x), transpose_y=True).reshape(weight.shape)
        return of_x, of_weight


def _side_by_side(maps: paddle.Tensor) -> paddle.Tensor:
    """[N, C, H, W] to [C, N * H * W]."""
    return maps.transpose([1, 0, 2, 3]).flatten(1)


def _apart(columns: paddle.Tensor, shape: Sequence[int]) -> paddle.Tensor:
    """[C, N * H * W] to [N, C, H, W], of which `shape` has N, H and W."""
    images, _, height, width = shape
    return columns.reshape([-1, images, height, width]).transpose([1, 0, 2, 3])
