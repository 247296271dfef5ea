"""The compiled loops of depthwise convolutions: forward, and both gradients.

A map is copied into a small scratch memory with its zero padding around it, so that a step of the kernel's tap is a
step in memory and edges need no care. Then each of the K * K taps is one pass over a long vector:

    out[p] += tap[u, v] * scratch[p + offset(u, v)]

With a stride s, the scratch memory holds s * s maps, every s-th row and column in each, and the passes stay the same.
Small maps (2 x 2 in the last stage at 64 pixels) are put behind one another, so that the vectors stay long.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SCRATCH = 2048  # float32 values of one map in the scratch memory: all of it stays in the first-level cache

# Sums may be reordered (that is what vectors need), but NaN and infinity must stay what they are.
_compiled = njit(fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy", cache=True)

# All kernels see the scratch memory as one long vector, in this order, the last index the fastest:
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
def convolve(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
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
            elif K == 5:
                # A row of taps in one pass, for the same reason.
                out[:length] = 0
                for u in range(5):
                    first_tap = 5 * u
                    t0, t1, t2 = taps[first_tap], taps[first_tap + 1], taps[first_tap + 2]
                    t3, t4 = taps[first_tap + 3], taps[first_tap + 4]
                    s0, s1 = scratch[offsets[first_tap] :], scratch[offsets[first_tap + 1] :]
                    s2, s3 = scratch[offsets[first_tap + 2] :], scratch[offsets[first_tap + 3] :]
                    s4 = scratch[offsets[first_tap + 4] :]
                    for p in range(length):
                        out[p] += t0 * s0[p] + t1 * s1[p] + t2 * s2[p] + (t3 * s3[p] + t4 * s4[p])
            else:
                out[:length] = 0
                for t in range(K * K):
                    tap, shifted = taps[t], scratch[offsets[t] :]
                    for p in range(length):
                        out[p] += tap * shifted[p]
            for b in range(images):  # the result has no padding and no phases
                _gather(y[first + b, c], out, b * area, columns, size, (1, 0, 0))


@_compiled
def differentiate(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x and weight from that of y, for the channels from `begin` to `end`.

    With y[p] the sum over the taps t of weight[t] * x[p + offset(t)], for one channel,

        gradient of weight[t]           sum over p of x[p + offset(t)] * gradient of y[p]
        gradient of x[p + offset(t)]    gets weight[t] * gradient of y[p] from each t

    so both are made in the same pass for each tap. `arrays` are x, weight, and the gradients of y, x and weight; that
    of a frozen weight has no channels.
    """
    x, weight, of_y, of_x, of_weight = arrays
    K = weight.shape[2]
    block, columns, area, size, offsets = _layout(x.shape, of_y.shape, K, placement)
    scratch = _new_scratch(K, placement[0], columns, size)
    scratch_gradient = np.empty_like(scratch)
    # Where the maps are larger than y the gradient must be zero: it stays so, as only y's own places are written.
    out = np.zeros(size, np.float32)
    trained = of_weight.shape[0] > 0
    sums = np.zeros(K * K, np.float32)
    for c in range(begin, end):
        taps = weight[c].reshape(K * K)
        sums[:] = 0
        for first in range(0, x.shape[0], block):
            images = min(block, x.shape[0] - first)
            for b in range(images):
                if trained:
                    _scatter(x[first + b, c], scratch, b * area, columns, size, placement)
                _scatter(of_y[first + b, c], out, b * area, columns, size, (1, 0, 0))
            scratch_gradient[:] = 0
            for t in range(K * K):
                tap, total = taps[t], np.float32(0)
                shifted, shifted_gradient = scratch[offsets[t] :], scratch_gradient[offsets[t] :]
                if not trained:
                    for p in range(images * area):
                        shifted_gradient[p] += tap * out[p]
                    continue
                for p in range(images * area):
                    shifted_gradient[p] += tap * out[p]
                    total += shifted[p] * out[p]
                sums[t] += total  # a sum for each block of images, added up in their order
            for b in range(images):  # drops the gradient of the padding
                _gather(of_x[first + b, c], scratch_gradient, b * area, columns, size, placement)
        if trained:
            of_weight[c].reshape(K * K)[:] = sums
