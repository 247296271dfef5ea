"""Depthwise convolutions that train fast on a CPU.

Paddle's own kernel unfolds every channel into a matrix and multiplies that by a vector of nine numbers; on a CPU it
takes half to four fifths of a training step of MobileNeXt (results/bench_train.json). Here they are the loops of
`depthwise_kernels` and `depthwise_small_maps`, which Numba compiles. Results stay what they were, up to the order of a
sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from mobilenext.training import depthwise_kernels, depthwise_small_maps
from mobilenext.training.compiled_loops import array_of, contiguous, over_channels


class Geometry(NamedTuple):
    """Stride, padding and dilation of a convolution."""

    stride: int
    top: int  # zeros before the first row
    bottom: int
    left: int
    right: int
    dilation: int = 1

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Return the zeros on all sides, in the order of the fields."""
        return self[1:5]

    @property
    def placement(self) -> tuple[int, int, int, int]:
        """Return what the loops need to know of it."""
        return self.stride, self.dilation, self.top, self.left

    def output(self, height: int, width: int, kernel_size: int) -> tuple[int, int]:
        """Return the rows and columns of the result."""
        reach = (kernel_size - 1) * self.dilation + 1  # pixels from the first tap to the last
        rows = (height + self.top + self.bottom - reach) // self.stride + 1
        columns = (width + self.left + self.right - reach) // self.stride + 1
        return rows, columns


def depthwise_conv2d(x: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
    """Convolve each channel of x [N, C, H, W] with its own kernel of weight [C, 1, K, K]: float32, on a CPU.

    Returns:
        [N, C, H', W'], differentiable by x and by weight.
    """
    ring = _ring_beyond_the_map(x.shape, weight.shape[-1], geometry)
    if ring:
        weight = contiguous(weight[:, :, ring:-ring, ring:-ring])
        top, bottom, left, right = (side - ring * geometry.dilation for side in geometry.padding)
        geometry = Geometry(geometry.stride, top, bottom, left, right, geometry.dilation)
    return _Depthwise.apply(x, weight, geometry)


def _ring_beyond_the_map(shape: Sequence[int], kernel_size: int, geometry: Geometry) -> int:
    """Return how many outer rings of a kernel of 5, 7 ... meet nothing but padding, on a map [N, C, H, W].

    With a padding of K // 2 times the dilation a tap d pixels from the middle of the kernel reads the input d pixels
    from one of its own pixels; of a map with sides of up to n pixels, those with d >= n lie outside. A kernel of 5 on a
    map of 2 x 2, for one, is one of 3.
    """
    middle = kernel_size // 2
    odd = kernel_size % 2 == 1  # one of 4 has no middle
    if kernel_size <= 3 or not odd or any(side != middle * geometry.dilation for side in geometry.padding):
        return 0
    return max(0, middle - (max(shape[2:]) - 1) // geometry.dilation)


def geometry_of(layer: nn.Conv2D) -> Geometry | None:
    """Return the geometry of a depthwise convolution of a form that the loops know; None for any other layer."""
    channels, of_group, *kernel = layer.weight.shape
    zeros = layer._padding_mode == "zeros"
    dilation = list(layer._dilation)
    plain = zeros and layer._data_format == "NCHW" and dilation[0] == dilation[1]
    if of_group != 1 or layer._groups != channels or layer._in_channels != channels or not plain:
        return None
    strides, padding = list(layer._stride), layer._padding
    if kernel[0] != kernel[1] or strides[0] != strides[1] or isinstance(padding, str):
        return None
    if isinstance(padding, int):
        padding = [padding] * 4
    if len(padding) != 4:  # of height and width
        padding = [padding[0], padding[0], padding[1], padding[1]]
    if not all(isinstance(side, int) for side in padding):
        return None
    top, bottom, left, right = padding
    return Geometry(strides[0], top, bottom, left, right, dilation[0])


def _loops(
    input_size: tuple[int, int], output_size: tuple[int, int], kernel_size: int, geometry: Geometry
) -> ModuleType:
    """Return the module whose loops are the faster ones for maps of these sizes."""
    fits = depthwise_small_maps.fits(input_size, output_size, kernel_size, geometry.stride)
    return depthwise_small_maps if fits else depthwise_kernels


class _Depthwise(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
        x = contiguous(x)
        images, channels, height, width = x.shape
        size = geometry.output(height, width, weight.shape[-1])
        result = paddle.empty([images, channels, *size], x.dtype)
        loops = _loops((height, width), size, weight.shape[-1], geometry)
        over_channels(loops.convolve, (array_of(x), array_of(weight), array_of(result)), geometry.placement)
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.loops = geometry, loops
        return result

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        x, weight = ctx.saved_tensor()
        of_x, of_weight = paddle.empty_like(x), None if weight.stop_gradient else paddle.empty_like(weight)
        taps = array_of(weight)
        of_taps = taps[:0] if of_weight is None else array_of(of_weight)
        arrays = (array_of(x), taps, array_of(contiguous(gradient)), array_of(of_x), of_taps)
        over_channels(ctx.loops.differentiate, arrays, ctx.geometry.placement)
        # Paddle wants None for what has no gradient, such as frozen weights.
        return None if x.stop_gradient else of_x, of_weight
