"""The compiled loops of depthwise convolutions: forward, and both gradients.

A map is copied into a small scratch memory with its zero padding around it, so that a step of the kernel's tap is a
step in memory and edges need no care. Then several of the K * K taps at a time are one pass over a long vector:

    out[p] += tap[u, v] * scratch[p + offset(u, v)]

With a stride s, the scratch memory holds s * s maps, every s-th row and column in each, and the passes stay the same.
Small maps (2 x 2 in the last stage at 64 pixels) are put behind one another, so that the vectors stay long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import event

log = logging.getLogger(__name__)

SCRATCH = 2048  # float32 values of one map in the scratch memory: all of it stays in the first-level cache

# Sums may be reordered (that is what vectors need), but NaN and infinity must stay what they are.
OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "nogil": True, "error_model": "numpy"}


class _Announcement(event.Listener):  # type: ignore[misc]
    """Logs why the first step of a process takes so long. What the cache has is not compiled, and not announced."""

    done = False
    often = "once on this computer"

    def on_start(self, event: event.Event) -> None:
        if not self.done and event.data["dispatcher"].py_func.__module__.startswith(str(__package__)):
            self.done = True
            log.info("compiling the loops of training, %s: about a minute", self.often)

    def on_end(self, event: event.Event) -> None:
        pass


_announcement = _Announcement()
event.register("numba:compile", _announcement)


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function as Numba compiles it when it is first called; later processes take it from a cache.

    The cache notices a change in the function's own file, not in that of a function it calls: whoever changes this file
    has to touch the others that use it.
    """
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for a cache may be written to: each process compiles
        _announcement.often = "in each run, as no cache can be written"
        return njit(**OPTIONS)(function)


# All kernels see the scratch memory as one long vector, in this order, the last index the fastest:
#
#     scratch[phase][image][row][column]
#
# phase    (row % stride) * stride + column % stride of the padded image: in which of the maps a pixel is
# image    of the `block` images whose maps fit into SCRATCH; small maps are computed for several images in one pass
# row      of the padded image, divided by the stride; the same for the column
#
# A tap (u, v) of the kernel reads the pixel U = u * dilation rows below and V = v * dilation columns right of where the
# result stands. For the result at (i, j) that is the pixel (i * stride + U, j * stride + V), in the map of the phase
# (U % stride, V % stride), at row i + U // stride and column j + V // stride. So a tap is one offset for all pixels of
# the result, and the result is written to a vector with the same rows and columns as a map: where its row or column
# lies beyond the result's own size a number without meaning stands, which is never read.
#
# Only the padding above and left of an image is in its map. What a tap reads right of a row is the padding left of the
# next row, and below an image it is that above the next image; behind the last image of a phase there is a tail of
# zeros.


@compiled
def _layout(x_shape, y_shape, K, placement):  # type: ignore[no-untyped-def]
    """Return how the scratch memory is laid out.

    Returns:
        block: images whose maps are in it at a time.
        columns: of one map.
        area: values of one map.
        size: values of one phase, which are the maps of all `block` images and the tail.
        offsets: [K * K], of each tap, in its phase.
        phases: [K * K], of each tap.
    """
    stride, dilation, top, left = placement
    reach = (K - 1) * dilation
    # A map must hold every pixel of the image behind its padding. As the padding of the next row or image comes behind
    # it, that many pixels fewer than what a tap of the last result reads; both rounded up to whole steps of the stride.
    # It has a place for each result.
    rows = (max(y_shape[2] * stride + reach - (stride - 1) - top, x_shape[2] + top) + stride - 1) // stride
    columns = (max(y_shape[3] * stride + reach - (stride - 1) - left, x_shape[3] + left) + stride - 1) // stride
    rows, columns = max(rows, y_shape[2]), max(columns, y_shape[3])
    area = rows * columns
    block = min(x_shape[0], max(1, SCRATCH // area))
    offsets, phases = np.empty(K * K, np.int64), np.empty(K * K, np.int64)
    for u in range(K):
        for v in range(K):
            row, column = u * dilation, v * dilation
            phases[u * K + v] = (row % stride) * stride + column % stride
            offsets[u * K + v] = row // stride * columns + column // stride
    return block, columns, area, block * area + _tail(K, columns, placement), offsets, phases


@compiled
def _tail(K, columns, placement):  # type: ignore[no-untyped-def]
    """Return how far behind its own place a tap reads at most: the largest offset."""
    return (K - 1) * placement[1] // placement[0] * (columns + 1)


# Rows are copied from one view to another, whose indices the compiler knows to be in order, so that it makes vector
# instructions of them: an index that is computed may be negative, which Python counts from the end.


@compiled
def _scatter(x, place, scratch, area, columns, size, placement):  # type: ignore[no-untyped-def]
    """Copy one channel of some images of x [N, C, H, W] into their maps in the scratch memory.

    `place` is the channel, the first image, how many there are, and where in the scratch memory the first map begins.
    """
    stride, _, top, left = placement
    c, first, images, start = place
    height, width = x.shape[2], x.shape[3]
    for b in range(images):
        for i in range(height):
            row, to = x[first + b, c, i], start + b * area  # of the image, and where its map begins
            if stride == 1:  # one map: rows are copied as they are
                target = scratch[to + (i + top) * columns + left :]
                for j in range(width):
                    target[j] = row[j]
                continue
            to += (i + top) % stride * stride * size + (i + top) // stride * columns
            if stride == 2:  # pixels in turns for two maps
                even = scratch[to + left % 2 * size + left // 2 :]
                odd = scratch[to + (left + 1) % 2 * size + (left + 1) // 2 :]
                for j in range(width // 2):
                    even[j] = row[2 * j]
                    odd[j] = row[2 * j + 1]
                if width % 2:
                    even[width // 2] = row[width - 1]
                continue
            for j in range(width):
                scratch[to + (j + left) % stride * size + (j + left) // stride] = row[j]


@compiled
def _gather(x, place, scratch, area, columns, size, placement):  # type: ignore[no-untyped-def]
    """Copy the maps back into one channel of some images: the inverse of :func:`_scatter`."""
    stride, _, top, left = placement
    c, first, images, start = place
    height, width = x.shape[2], x.shape[3]
    for b in range(images):
        for i in range(height):
            row, at = x[first + b, c, i], start + b * area
            if stride == 1:
                source = scratch[at + (i + top) * columns + left :]
                for j in range(width):
                    row[j] = source[j]
                continue
            at += (i + top) % stride * stride * size + (i + top) // stride * columns
            if stride == 2:
                even = scratch[at + left % 2 * size + left // 2 :]
                odd = scratch[at + (left + 1) % 2 * size + (left + 1) // 2 :]
                for j in range(width // 2):
                    row[2 * j] = even[j]
                    row[2 * j + 1] = odd[j]
                if width % 2:
                    row[width - 1] = even[width // 2]
                continue
            for j in range(width):
                row[j] = scratch[at + (j + left) % stride * size + (j + left) // stride]


@compiled
def _correlate(target, source, taps, places, length):  # type: ignore[no-untyped-def]
    """Fill target[p] with the sum over all taps t of taps[t] * source[p + places[t]], for p below `length`.

    Nine or five taps are one pass: each pass writes the target once, where a pass for each tap would read and write it
    as often as there are taps. The compiler makes vector instructions of it as taps and views have names of their own.
    """
    count, t = len(taps), 0
    if count == 9:
        t0, t1, t2, t3, t4 = taps[0], taps[1], taps[2], taps[3], taps[4]
        t5, t6, t7, t8 = taps[5], taps[6], taps[7], taps[8]
        s0, s1, s2 = source[places[0] :], source[places[1] :], source[places[2] :]
        s3, s4, s5 = source[places[3] :], source[places[4] :], source[places[5] :]
        s6, s7, s8 = source[places[6] :], source[places[7] :], source[places[8] :]
        for p in range(length):
            upper = t0 * s0[p] + t1 * s1[p] + t2 * s2[p]
            middle = t3 * s3[p] + t4 * s4[p] + t5 * s5[p]
            target[p] = upper + middle + (t6 * s6[p] + t7 * s7[p] + t8 * s8[p])
        return
    target[:length] = 0
    while count - t >= 5:
        t0, t1, t2, t3, t4 = taps[t], taps[t + 1], taps[t + 2], taps[t + 3], taps[t + 4]
        s0, s1, s2 = source[places[t] :], source[places[t + 1] :], source[places[t + 2] :]
        s3, s4 = source[places[t + 3] :], source[places[t + 4] :]
        for p in range(length):
            target[p] += t0 * s0[p] + t1 * s1[p] + t2 * s2[p] + (t3 * s3[p] + t4 * s4[p])
        t += 5
    while count - t >= 2:
        t0, t1 = taps[t], taps[t + 1]
        s0, s1 = source[places[t] :], source[places[t + 1] :]
        for p in range(length):
            target[p] += t0 * s0[p] + t1 * s1[p]
        t += 2
    if t < count:
        t0, s0 = taps[t], source[places[t] :]
        for p in range(length):
            target[p] += t0 * s0[p]


@compiled
def _add_products(sums, source, of_y, places, length):  # type: ignore[no-untyped-def]
    """Add to sums[t] the sum over p below `length` of source[p + places[t]] * of_y[p], for all taps t.

    Nine, five or one of them are one pass, which reads of_y once.
    """
    count, t = len(places), 0
    zero = np.float32(0)
    while count - t >= 9:
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = zero
        s0, s1, s2 = source[places[t] :], source[places[t + 1] :], source[places[t + 2] :]
        s3, s4, s5 = source[places[t + 3] :], source[places[t + 4] :], source[places[t + 5] :]
        s6, s7, s8 = source[places[t + 6] :], source[places[t + 7] :], source[places[t + 8] :]
        for p in range(length):
            g = of_y[p]
            a0 += s0[p] * g
            a1 += s1[p] * g
            a2 += s2[p] * g
            a3 += s3[p] * g
            a4 += s4[p] * g
            a5 += s5[p] * g
            a6 += s6[p] * g
            a7 += s7[p] * g
            a8 += s8[p] * g
        sums[t] += a0
        sums[t + 1] += a1
        sums[t + 2] += a2
        sums[t + 3] += a3
        sums[t + 4] += a4
        sums[t + 5] += a5
        sums[t + 6] += a6
        sums[t + 7] += a7
        sums[t + 8] += a8
        t += 9
    while t < count:
        total, shifted = zero, source[places[t] :]
        for p in range(length):
            total += shifted[p] * of_y[p]
        sums[t] += total
        t += 1


@compiled
def convolve(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill y [N, C, H', W'] from x [N, C, H, W] and weight [C, 1, K, K], for the channels from `begin` to `end`.

    `arrays` are x, weight and y; `placement` is the stride, the dilation, and the padding above and left.
    """
    x, weight, y = arrays
    K, stride = weight.shape[2], placement[0]
    block, columns, area, size, offsets, phases = _layout(x.shape, y.shape, K, placement)
    # Padding is never written, so it stays zero for all channels and images.
    scratch = np.zeros(stride * stride * size, np.float32)
    places = phases * size + offsets
    out = np.empty(block * area, np.float32)  # the results of `block` images, with the rows and columns of a map
    for c in range(begin, end):
        taps = weight[c].reshape(K * K)
        for first in range(0, x.shape[0], block):
            images = min(block, x.shape[0] - first)  # the last block may have fewer; of the others only padding is read
            place = (c, first, images, 0)
            _scatter(x, place, scratch, area, columns, size, placement)
            _correlate(out, scratch, taps, places, images * area)
            _gather(y, place, out, area, columns, 0, (1, 1, 0, 0))  # the result has no padding and no phases


@compiled
def differentiate(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x and weight from that of y, for the channels from `begin` to `end`.

    With y[p] the sum over the taps t of weight[t] * x[p + offset(t)], for one channel,

        gradient of weight[t]    sum over p of x[p + offset(t)] * gradient of y[p]
        gradient of x[q]         sum over t of weight[t] * gradient of y[q - offset(t)]

    the latter in each phase over the taps that read it. `arrays` are x, weight, and the gradients of y, x and weight;
    that of a frozen weight has no channels.
    """
    x, weight, of_y, of_x, of_weight = arrays
    K, stride = weight.shape[2], placement[0]
    block, columns, area, size, offsets, phases = _layout(x.shape, of_y.shape, K, placement)
    trained = of_weight.shape[0] > 0
    scratch = np.zeros(stride * stride * size if trained else 0, np.float32)
    scratch_gradient = np.empty(stride * stride * size, np.float32)
    # The gradient of y stands behind zeros, for what lies before the first result. Where the maps are larger than y it
    # must be zero: it stays so, as only y's own places are written.
    zeros = _tail(K, columns, placement)
    out = np.zeros(zeros + block * area, np.float32)
    places = phases * size + offsets
    # The taps in the order of their phases, of which each has those from bounds[phase] to bounds[phase + 1].
    order = np.argsort(phases, kind="mergesort")
    bounds = np.searchsorted(phases[order], np.arange(stride * stride + 1))
    backwards = zeros - offsets[order]
    sums = np.zeros(K * K, np.float32)
    for c in range(begin, end):
        taps = weight[c].reshape(K * K)[order]
        sums[:] = 0
        for first in range(0, x.shape[0], block):
            images = min(block, x.shape[0] - first)
            length = images * area
            place = (c, first, images, 0)
            if trained:
                _scatter(x, place, scratch, area, columns, size, placement)
            _scatter(of_y, (c, first, images, zeros), out, area, columns, 0, (1, 1, 0, 0))
            for phase in range(stride * stride):
                low, high = bounds[phase], bounds[phase + 1]
                _correlate(scratch_gradient[phase * size :], out, taps[low:high], backwards[low:high], length)
            if trained:  # a sum for each block of images, added up in their order
                _add_products(sums, scratch, out[zeros:], places, length)
            _gather(of_x, place, scratch_gradient, area, columns, size, placement)  # drops that of the padding
        if trained:
            of_weight[c].reshape(K * K)[:] = sums
