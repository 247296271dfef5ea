"""1x1 convolutions that train fast on a CPU: matrix products.

Paddle multiplies the weights [O, C] with one image [C, H * W] after another. With maps of few pixels these products
are too small to be fast; all images together are one large product, for which they are put side by side:

    [N, C, P] -> [C, N * P]    y = W x    gradient of x = W^T dy    gradient of W = dy x^T

With maps of many pixels putting them side by side costs more than it saves: there the products stay those of single
images, in one batch. The gradient of W then is a sum over the images.
"""

from __future__ import annotations

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


class _Pointwise(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        images, _, height, width = x.shape
        ctx.save_for_backward(x, weight)
        matrix, maps = weight.flatten(1), x.flatten(2)
        if _together(x, weight):
            y = _apart(matrix @ _side_by_side(maps), images)
        else:
            y = matrix @ maps
        return y.reshape([images, -1, height, width])

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        x, weight = ctx.saved_tensor()
        matrix, maps, of_maps = weight.flatten(1), x.flatten(2), gradient.flatten(2)
        together = _together(x, weight)
        if together:
            maps, of_maps = _side_by_side(maps), _side_by_side(of_maps)
        of_x = of_weight = None
        if not x.stop_gradient:
            of_x = paddle.matmul(matrix, of_maps, transpose_x=True)
            of_x = (_apart(of_x, x.shape[0]) if together else of_x).reshape(x.shape)
        if not weight.stop_gradient:
            of_weight = paddle.matmul(of_maps, maps, transpose_y=True)
            of_weight = (of_weight if together else of_weight.sum(0)).reshape(weight.shape)
        return of_x, of_weight


def _together(x: paddle.Tensor, weight: paddle.Tensor) -> bool:
    """Return whether all images are one product: where the gradients of W, one an image, were more than the maps."""
    inputs, outputs, pixels = x.shape[1], weight.shape[0], x.shape[2] * x.shape[3]
    return bool(inputs * outputs > (inputs + outputs) * pixels)


def _side_by_side(maps: paddle.Tensor) -> paddle.Tensor:
    """[N, C, P] to [C, N * P]."""
    return maps.transpose([1, 0, 2]).flatten(1)


def _apart(maps: paddle.Tensor, images: int) -> paddle.Tensor:
    """[C, N * P] to [N, C, P]."""
    return maps.reshape([maps.shape[0], images, -1]).transpose([1, 0, 2])
