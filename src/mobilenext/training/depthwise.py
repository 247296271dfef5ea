"""Depthwise convolutions that train fast on a CPU.

Paddle's own kernel unfolds every channel into a matrix and multiplies that by a vector of nine numbers; on a CPU it
takes half to four fifths of a training step of MobileNeXt (results/bench_train.json). :func:`accelerate` replaces it,
on a CPU only, by loops that Numba compiles. Weights, names and results stay what they were, up to the order of a sum.

How the loops work. A map is copied into a small scratch memory with its zero padding around it, so that a step of the
kernel's tap is a step in memory and edges need no care. Then each of the K * K taps is one pass over a long vector:

    out[p] += tap[u, v] * scratch[p + offset(u, v)]

With a stride s, the scratch memory holds s * s maps, every s-th row and column in each, and the passes stay the same.
Small maps (2 x 2 in the last stage at 64 pixels) are put behind one another, so that the vectors stay long.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import paddle
from numba import njit
from paddle import nn
from paddle.autograd import PyLayer

from mobilenext.machine.process_environment import openmp_threads

Floats = npt.NDArray[np.float32]
SCRATCH = 2048  # float32 values of one map in the scratch memory: all of it stays in the first-level cache

# Sums may be reordered (that is what vectors need), but NaN and infinity must stay what they are.
_compiled = njit(fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy", cache=True)


class Geometry(NamedTuple):
    """Stride and padding of a convolution."""

    stride: int
    top: int  # zeros before the first row
    bottom: int
    left: int
    right: int

    def output(self, height: int, width: int, kernel_size: int) -> tuple[int, int]:
        """Return the rows and columns of the result."""
        rows = (height + self.top + self.bottom - kernel_size) // self.stride + 1
        columns = (width + self.left + self.right - kernel_size) // self.stride + 1
        return rows, columns


def accelerate(network: nn.Layer) -> int:
    """Let the depthwise convolutions of `network` use the loops of this module, and return how many do.

    On a GPU and for other types than float32 they stay Paddle's. Not for a network that is to be exported.
    """
    count = 0
    for layer in network.sublayers():
        if isinstance(layer, nn.Conv2D) and (geometry := _geometry_of(layer)):
            layer.forward = partial(_forward, layer, geometry, layer.forward)
            count += 1
    return count


def depthwise_conv2d(x: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
    """Convolve each channel of x [N, C, H, W] with its own kernel of weight [C, 1, K, K]: float32, on a CPU.

    Returns:
        [N, C, H', W'], differentiable by x and by weight.
    """
    return _Depthwise.apply(x, weight, geometry)


def _geometry_of(layer: nn.Conv2D) -> Geometry | None:
    """Return the geometry of a depthwise convolution of a form that the loops know; None for any other layer."""
    channels, of_group, *kernel = layer.weight.shape
    zeros = layer._padding_mode == "zeros"
    plain = zeros and layer._data_format == "NCHW" and list(layer._dilation) == [1, 1]
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
    return Geometry(strides[0], *padding)


def _forward(layer: nn.Conv2D, geometry: Geometry, native: Callable[[Any], Any], x: paddle.Tensor) -> paddle.Tensor:
    if x.dtype == layer.weight.dtype == paddle.float32 and x.place.is_cpu_place():
        result = depthwise_conv2d(x, layer.weight, geometry)
        return result if layer.bias is None else result + layer.bias.reshape([1, -1, 1, 1])
    return native(x)


class _Depthwise(PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
        x = x.contiguous() if hasattr(x, "contiguous") else x
        images, channels, height, width = x.shape
        result = paddle.empty([images, channels, *geometry.output(height, width, weight.shape[-1])], x.dtype)
        _over_channels(_convolve, geometry, (_array(x), _array(weight), _array(result)))
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return result

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        x, weight = ctx.saved_tensor()
        gradient = gradient.contiguous() if hasattr(gradient, "contiguous") else gradient
        of_x, of_weight = paddle.empty_like(x), paddle.empty_like(weight)
        arrays = (_array(x), _array(weight), _array(gradient), _array(of_x), _array(of_weight))
        _over_channels(_differentiate, ctx.geometry, arrays)
        # Paddle wants None for what has no gradient, such as frozen weights.
        return None if x.stop_gradient else of_x, None if weight.stop_gradient else of_weight


def _array(tensor: paddle.Tensor) -> Floats:
    """Return the tensor's own memory as an array [...]; Tensor.numpy() would copy it."""
    values = (ctypes.c_float * tensor.size).from_address(tensor.data_ptr())
    return np.frombuffer(values, np.float32).reshape(tensor.shape)


@cache
def _threads() -> ThreadPoolExecutor | None:
    """Return threads that share the channels, as many as Paddle's own kernels use; None for one."""
    count = openmp_threads()
    return ThreadPoolExecutor(count) if count > 1 else None


def _over_channels(kernel: Any, geometry: Geometry, arrays: tuple[Floats, ...]) -> None:
    """Run `kernel` on all channels of `arrays`, of which x [N, C, H, W] is the first.

    No channel depends on another, so the result does not depend on the threads.
    """
    placement = (geometry.stride, geometry.top, geometry.left)
    channels = arrays[0].shape[1]
    threads = _threads()
    if threads is None:
        kernel(arrays, placement, 0, channels)
        return
    share = -(-channels // threads._max_workers)  # rounded up: the last thread may have fewer

    def run(first: int) -> None:
        kernel(arrays, placement, first, min(first + share, channels))

    for _ in threads.map(run, range(0, channels, share)):
        pass  # an exception of a thread is raised here


# The kernels. All of them see the scratch memory as one long vector, in this order, the last index the fastest:
#
#     scratch[phase][image][row][column]
#
# phase    (row % stride) * stride + column % stride of the padded image: in which of the maps a pixel is
# image    of the `block` images whose maps fit into SCRATCH; small maps are computed for several images in one pass
# row      of the padded image, divided by the stride; the same for the column
#
# A tap (u, v) of the kernel reads the pixel u rows below and v columns right of where the result stands. For the result
# at (i, j) that is the pixel (i * stride + u, j * stride + v), in the map of the phase (u % stride, v % stride), at row
# i + u // stride and column j + v // stride. So a tap is one offset for all pixels of the result, and the result is
# written to a vector with the same rows and columns as a map: where its row or column lies beyond the result's own size
# a number without meaning stands, which is never read.


@_compiled
def _layout(x_shape, y_shape, K, placement):  # type: ignore[no-untyped-def]
    """Return how the scratch memory is laid out.

    Returns:
        block: images whose maps are in it at a time.
        columns: of one map.
        area: values of one map.
        size: values of one phase, which are the maps of all `block` images.
        offsets: [K * K], of each tap.
    """
    stride, top, left = placement
    # A map must hold every pixel of the image behind its padding, and every pixel that a tap of the last result reads,
    # also in the padding below and right of the image; both rounded up to whole steps of the stride.
    rows = (max((y_shape[2] - 1) * stride + K, x_shape[2] + top) + stride - 1) // stride
    columns = (max((y_shape[3] - 1) * stride + K, x_shape[3] + left) + stride - 1) // stride
    area = rows * columns
    block = min(x_shape[0], max(1, SCRATCH // area))
    offsets = np.empty(K * K, np.int64)
    for u in range(K):
        for v in range(K):
            phase = (u % stride) * stride + v % stride
            offsets[u * K + v] = phase * block * area + (u // stride) * columns + v // stride
    return block, columns, area, block * area, offsets


@_compiled
def _new_scratch(K, stride, columns, size):  # type: ignore[no-untyped-def]
    """Return scratch memory of zeros. Padding is never written, so it stays zero for all channels and images.

    The last passes read beyond the last map, by the offset of the last tap at most: K rows and K columns.
    """
    return np.zeros(stride * stride * size + K * columns + K, np.float32)


@_compiled
def _scatter(image, scratch, start, columns, size, placement):  # type: ignore[no-untyped-def]
    """Copy one channel of one image [H, W] into its maps in the scratch memory, which begin at `start`."""
    stride, top, left = placement
    height, width = image.shape
    if stride == 1:  # one map: rows are copied as they are
        for i in range(height):
            to = start + (i + top) * columns + left
            for j in range(width):
                scratch[to + j] = image[i, j]
        return
    for i in range(height):
        row = i + top  # of the padded image
        for phase in range(stride):  # the columns j with (j + left) % stride == phase, of which `first` is the first
            first = (phase - left) % stride
            to = start + ((row % stride) * stride + phase) * size + row // stride * columns + (first + left) // stride
            for j in range((width - first + stride - 1) // stride):
                scratch[to + j] = image[i, first + j * stride]


@_compiled
def _gather(image, scratch, start, columns, size, placement):  # type: ignore[no-untyped-def]
    """Copy the maps back into one channel of one image: the inverse of :func:`_scatter`."""
    stride, top, left = placement
    height, width = image.shape
    if stride == 1:
        for i in range(height):
            at = start + (i + top) * columns + left
            for j in range(width):
                image[i, j] = scratch[at + j]
        return
    for i in range(height):
        row = i + top
        for phase in range(stride):
            first = (phase - left) % stride
            at = start + ((row % stride) * stride + phase) * size + row // stride * columns + (first + left) // stride
            for j in range((width - first + stride - 1) // stride):
                image[i, first + j * stride] = scratch[at + j]


@_compiled
def _convolve(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill y [N, C, H', W'] from x [N, C, H, W] and weight [C, 1, K, K], for the channels from `begin` to `end`.

    `arrays` are x, weight and y.
    """
    x, weight, y = arrays
    K = weight.shape[2]
    block, columns, area, size, offsets = _layout(x.shape, y.shape, K, placement)
    scratch = _new_scratch(K, placement[0], columns, size)
    out = np.empty(size, np.float32)  # the results of `block` images, with the rows and columns of a map
    for c in range(begin, end):
        taps = weight[c].reshape(K * K)
        for first in range(0, x.shape[0], block):
            images = min(block, x.shape[0] - first)  # the last block may have fewer; what lies behind is not read
            for b in range(images):
                _scatter(x[first + b, c], scratch, b * area, columns, size, placement)
            length = images * area
            if K == 3:
                # All nine taps in one pass: `out` is written once, where nine passes would read and write it nine
                # times. The compiler makes vector instructions of it as taps and views have names of their own.
                t0, t1, t2, t3, t4 = taps[0], taps[1], taps[2], taps[3], taps[4]
                t5, t6, t7, t8 = taps[5], taps[6], taps[7], taps[8]
                s0, s1, s2 = scratch[offsets[0] :], scratch[offsets[1] :], scratch[offsets[2] :]
                s3, s4, s5 = scratch[offsets[3] :], scratch[offsets[4] :], scratch[offsets[5] :]
                s6, s7, s8 = scratch[offsets[6] :], scratch[offsets[7] :], scratch[offsets[8] :]
                for p in range(length):
                    upper = t0 * s0[p] + t1 * s1[p] + t2 * s2[p]
                    middle = t3 * s3[p] + t4 * s4[p] + t5 * s5[p]
                    out[p] = upper + middle + (t6 * s6[p] + t7 * s7[p] + t8 * s8[p])
            else:
                out[:length] = 0
                for t in range(K * K):
                    tap, shifted = taps[t], scratch[offsets[t] :]
                    for p in range(length):
                        out[p] += tap * shifted[p]
            for b in range(images):  # the result has no padding and no phases
                _gather(y[first + b, c], out, b * area, columns, size, (1, 0, 0))


@_compiled
def _differentiate(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x and weight from that of y, for the channels from `begin` to `end`.

    With y[p] the sum over the taps t of weight[t] * x[p + offset(t)], for one channel,

        gradient of weight[t]           sum over p of x[p + offset(t)] * gradient of y[p]
        gradient of x[p + offset(t)]    gets weight[t] * gradient of y[p] from each t

    so both are made in the same pass for each tap. `arrays` are x, weight, and the gradients of y, x and weight.
    """
    x, weight, of_y, of_x, of_weight = arrays
    K = weight.shape[2]
    block, columns, area, size, offsets = _layout(x.shape, of_y.shape, K, placement)
    scratch = _new_scratch(K, placement[0], columns, size)
    scratch_gradient = np.empty_like(scratch)
    # Where the maps are larger than y the gradient must be zero: it stays so, as only y's own places are written.
    out = np.zeros(size, np.float32)
    for c in range(begin, end):
        taps = weight[c].reshape(K * K)
        sums = of_weight[c].reshape(K * K)
        sums[:] = 0
        for first in range(0, x.shape[0], block):
            images = min(block, x.shape[0] - first)
            for b in range(images):
                _scatter(x[first + b, c], scratch, b * area, columns, size, placement)
                _scatter(of_y[first + b, c], out, b * area, columns, size, (1, 0, 0))
            scratch_gradient[:] = 0
            for t in range(K * K):
                tap, total = taps[t], np.float32(0)
                shifted, shifted_gradient = scratch[offsets[t] :], scratch_gradient[offsets[t] :]
                for p in range(images * area):
                    shifted_gradient[p] += tap * out[p]
                    total += shifted[p] * out[p]
                sums[t] += total  # a sum for each block of images, added up in their order
            for b in range(images):  # drops the gradient of the padding
                _gather(of_x[first + b, c], scratch_gradient, b * area, columns, size, placement)
