"""The compiled loops of depthwise convolutions on small maps: several channels at a time.

The maps of an image lie behind one another in memory, so that those of some channels are one vector, in which a step of
the kernel's tap is a step as well. It leads to the wrong row or channel at the edges of a map. There its coefficient is
zero, and else the weight of the channel:

    out[p] = sum over taps t of coefficient[t, p] * x[p + step(t)]

No padding is made, and vectors are long however small the maps are. `depthwise_kernels` has the loops for large maps.
With a stride the result is computed for all pixels and taken from some: on small maps that costs less than to sort
them. Backwards the gradient is zero in between.

A product of zero with infinity or NaN is NaN, which would spread from one channel to the next. Channels in which there
is such a value are computed by the loops for large maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mobilenext.training import depthwise_kernels as large
from mobilenext.training.depthwise_kernels import compiled

PRODUCTS = 9 * 256  # of a map and its taps: up to that many these loops are the faster ones, as it was measured
LENGTH = 512  # values of the vector: as many channels as fit, at least one


def fits(input_size: Sequence[int], output_size: Sequence[int], kernel_size: int, stride: int) -> bool:
    """Return whether maps [H, W] are small, and have a pixel where each of the results [H', W'] stands."""
    stand = ((results - 1) * stride < side for results, side in zip(output_size, input_size, strict=True))
    return math.prod(input_size) * kernel_size**2 <= PRODUCTS and all(stand)


@compiled
def _taps(x_shape, y_shape, K, placement):  # type: ignore[no-untyped-def]
    """Return where the taps lead.

    Returns:
        steps: [K * K], in memory, of each tap.
        reads: [K * K, P], whether the tap of the result that stands at a pixel reads a pixel of the map.
        is_read: [K * K, P], whether the pixel is read by that tap of a result that stands in the map.
    """
    stride, dilation, top, left = placement
    height, width = x_shape[2], x_shape[3]
    steps = np.empty(K * K, np.int64)
    reads = np.zeros((K * K, height * width), np.bool_)
    is_read = np.zeros((K * K, height * width), np.bool_)
    for u in range(K):
        for v in range(K):
            t, down, right = u * K + v, u * dilation - top, v * dilation - left
            steps[t] = down * width + right
            for i in range(height):
                for j in range(width):
                    p = i * width + j
                    stands = i % stride == 0 and j % stride == 0 and i < y_shape[2] * stride and j < y_shape[3] * stride
                    reads[t, p] = stands and 0 <= i + down < height and 0 <= j + right < width
                    is_read[t, p] = 0 <= i - down < height and 0 <= j - right < width
    return steps, reads, is_read


@compiled
def _fill_coefficients(coefficients, weight, first, channels, used):  # type: ignore[no-untyped-def]
    taps, pixels = used.shape
    K = weight.shape[2]
    for t in range(taps):
        for c in range(channels):
            row, value = coefficients[t, c * pixels :], weight[first + c, 0, t // K, t % K]
            for p in range(pixels):
                row[p] = value if used[t, p] else np.float32(0)


@compiled
def _load(row, target, length):  # type: ignore[no-untyped-def]
    """Copy values, and return 0, or NaN where one of them is no finite number."""
    probe = np.float32(0)
    for p in range(length):
        target[p] = row[p]
        probe += row[p] * np.float32(0)
    return probe


# Where the results of `channels` maps [C, H', W'] stand in a vector of maps: `grid` is the stride, and the columns and
# pixels of such a map.


@compiled
def _spread(maps, target, channels, grid):  # type: ignore[no-untyped-def]
    """Copy maps to where the results stand, and return as `_load`; what is between stays as it is."""
    stride, columns, pixels = grid
    probe = np.float32(0)
    for c in range(channels):
        for i in range(maps.shape[1]):
            row, places = maps[c, i], target[c * pixels + i * stride * columns :]
            for j in range(maps.shape[2]):
                places[j * stride] = row[j]
                probe += row[j] * np.float32(0)
    return probe


@compiled
def _take(maps, source, channels, grid):  # type: ignore[no-untyped-def]
    """Fill maps with the results from where they stand."""
    stride, columns, pixels = grid
    for c in range(channels):
        for i in range(maps.shape[1]):
            row, places = maps[c, i], source[c * pixels + i * stride * columns :]
            for j in range(maps.shape[2]):
                row[j] = places[j * stride]


@compiled
def _weigh(target, source, coefficients, places, length):  # type: ignore[no-untyped-def]
    """Fill target[p] with the sum over all taps t of coefficients[t, p] * source[p + places[t]], for p below `length`.

    The first pass writes the target, each of the others adds to it: nine taps in a pass, then three, then one.
    """
    count, t = len(places), 0
    while t < count:
        if count - t >= 9:
            c0, c1, c2 = coefficients[t], coefficients[t + 1], coefficients[t + 2]
            c3, c4, c5 = coefficients[t + 3], coefficients[t + 4], coefficients[t + 5]
            c6, c7, c8 = coefficients[t + 6], coefficients[t + 7], coefficients[t + 8]
            s0, s1, s2 = source[places[t] :], source[places[t + 1] :], source[places[t + 2] :]
            s3, s4, s5 = source[places[t + 3] :], source[places[t + 4] :], source[places[t + 5] :]
            s6, s7, s8 = source[places[t + 6] :], source[places[t + 7] :], source[places[t + 8] :]
            if t == 0:
                for p in range(length):
                    upper = c0[p] * s0[p] + c1[p] * s1[p] + c2[p] * s2[p]
                    middle = c3[p] * s3[p] + c4[p] * s4[p] + c5[p] * s5[p]
                    target[p] = upper + middle + (c6[p] * s6[p] + c7[p] * s7[p] + c8[p] * s8[p])
            else:
                for p in range(length):
                    upper = c0[p] * s0[p] + c1[p] * s1[p] + c2[p] * s2[p]
                    middle = c3[p] * s3[p] + c4[p] * s4[p] + c5[p] * s5[p]
                    target[p] += upper + middle + (c6[p] * s6[p] + c7[p] * s7[p] + c8[p] * s8[p])
            t += 9
            continue
        if t == 0:
            target[:length] = 0
        if count - t >= 3:
            c0, c1, c2 = coefficients[t], coefficients[t + 1], coefficients[t + 2]
            s0, s1, s2 = source[places[t] :], source[places[t + 1] :], source[places[t + 2] :]
            for p in range(length):
                target[p] += c0[p] * s0[p] + c1[p] * s1[p] + c2[p] * s2[p]
            t += 3
        else:
            c0, s0 = coefficients[t], source[places[t] :]
            for p in range(length):
                target[p] += c0[p] * s0[p]
            t += 1


@compiled
def _add_products(sums, sources, gradients, margin, places, length):  # type: ignore[no-untyped-def]
    """Add to sums[t, p] what two images have: source[p + places[t]] * gradient[margin + p]."""
    g, h = gradients[0, margin:], gradients[1, margin:]
    for t in range(len(places)):
        row, s, r = sums[t], sources[0, places[t] :], sources[1, places[t] :]
        for p in range(length):
            row[p] += s[p] * g[p] + r[p] * h[p]


@compiled
def _vector(x_shape, steps):  # type: ignore[no-untyped-def]
    """Return the channels of a vector, its values, and the margin in front of and behind it, where taps may lead."""
    pixels = x_shape[2] * x_shape[3]
    channels = max(1, LENGTH // pixels)
    return channels, channels * pixels, np.abs(steps).max()


@compiled
def convolve(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill y [N, C, H', W'] from x [N, C, H, W] and weight [C, 1, K, K], for the channels from `begin` to `end`.

    `arrays` are x, weight and y; `placement` is the stride, the dilation, and the padding above and left. `fits` holds.
    """
    x, weight, y = arrays
    taps, columns, pixels = weight.shape[2] ** 2, x.shape[3], x.shape[2] * x.shape[3]
    steps, reads, _ = _taps(x.shape, y.shape, weight.shape[2], placement)
    block, size, margin = _vector(x.shape, steps)
    source, coefficients = np.zeros(size + 2 * margin, np.float32), np.zeros((taps, size), np.float32)
    out = np.empty(size, np.float32)
    places, grid = steps + margin, (placement[0], columns, pixels)
    dense = placement[0] == 1 and y.shape == x.shape
    rows, results = x.reshape(x.shape[0], -1), y.reshape(x.shape[0], -1)
    for first in range(begin, end, block):
        channels = min(block, end - first)
        length, probe = channels * pixels, np.float32(0)
        _fill_coefficients(coefficients, weight, first, channels, reads)
        if channels < block:  # zeros behind the last channel: there may be NaN of a channel before
            source[:] = 0
        for n in range(x.shape[0]):
            probe += _load(rows[n, first * pixels :], source[margin:], length)
            if dense:
                _weigh(results[n, first * pixels :], source, coefficients, places, length)
            else:
                _weigh(out, source, coefficients, places, length)
                _take(y[n, first:], out, channels, grid)
        if probe != 0:
            large.convolve(arrays, placement, first, first + channels)


@compiled
def differentiate(arrays, placement, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x and weight from that of y, for the channels from `begin` to `end`.

    `arrays` are x, weight, and the gradients of y, x and weight; that of a frozen weight has no channels. `fits` holds.
    """
    x, weight, of_y, of_x, of_weight = arrays
    taps, columns, pixels = weight.shape[2] ** 2, x.shape[3], x.shape[2] * x.shape[3]
    steps, reads, is_read = _taps(x.shape, of_y.shape, weight.shape[2], placement)
    block, size, margin = _vector(x.shape, steps)
    trained = of_weight.shape[0] > 0
    # Two images at a time, so that a sum is read and written once for both.
    sources, gradients = np.zeros((2, size + 2 * margin), np.float32), np.zeros((2, size + 2 * margin), np.float32)
    coefficients, sums = np.zeros((taps, size), np.float32), np.zeros((taps, size), np.float32)
    forwards, backwards, grid = margin + steps, margin - steps, (placement[0], columns, pixels)
    dense = placement[0] == 1 and of_y.shape == x.shape
    rows, of_rows = x.reshape(x.shape[0], -1), of_x.reshape(x.shape[0], -1)
    of_results = of_y.reshape(x.shape[0], -1)
    for first in range(begin, end, block):
        channels = min(block, end - first)
        length, start, probe = channels * pixels, first * pixels, np.float32(0)
        _fill_coefficients(coefficients, weight, first, channels, is_read)
        sums[:] = 0
        for n in range(x.shape[0]):
            source, gradient = sources[n % 2], gradients[n % 2]
            if channels < block:  # zeros behind the last channel
                gradient[:] = 0
            if dense:
                probe += _load(of_results[n, start:], gradient[margin:], length)
            else:
                probe += _spread(of_y[n, first:], gradient[margin:], channels, grid)
            _weigh(of_rows[n, start:], gradient, coefficients, backwards, length)
            if trained:
                _load(rows[n, start:], source[margin:], length)
                if n % 2:
                    _add_products(sums, sources, gradients, margin, forwards, length)
                elif n == x.shape[0] - 1:
                    gradients[1, :] = 0
                    sources[1, :] = 0
                    _add_products(sums, sources, gradients, margin, forwards, length)
        if probe != 0:
            large.differentiate(arrays, placement, first, first + channels)
        elif trained:
            _fill_weight(of_weight, sums, first, channels, reads)


@compiled
def _fill_weight(of_weight, sums, first, channels, reads):  # type: ignore[no-untyped-def]
    """Fill the gradient of the weight of some channels with the sums over the pixels that a tap reads from."""
    taps, pixels = reads.shape
    K = of_weight.shape[2]
    for c in range(channels):
        for t in range(taps):
            total = 0.0
            for p in range(pixels):
                if reads[t, p]:
                    total += sums[t, c * pixels + p]
            of_weight[first + c, 0, t // K, t % K] = total
