"""The compiled loops of batch norm in training on small maps: several channels at a time.

`batch_norm_kernels` has the formulas, and the loops for large maps. The maps of an image lie behind one another in
memory, so that those of some channels are one vector, however small they are. It is added up over the images place by
place, and over the places of a channel at the end. Some channels are done before the next begin, so that their values
are still in the cache when the second pass reads them.
"""

from __future__ import annotations

import numpy as np

from mobilenext.training.depthwise_kernels import compiled

LENGTH = 512  # places of a vector


@compiled
def _spread(of_channels, places, pixels):  # type: ignore[no-untyped-def]
    """Give each place of a vector the number of its channel."""
    for c in range(len(of_channels)):
        places[c * pixels : (c + 1) * pixels] = of_channels[c]


@compiled
def _gather(places, of_channels, pixels):  # type: ignore[no-untyped-def]
    """Fill the sum of each channel."""
    for c in range(len(of_channels)):
        total, row = 0.0, places[c * pixels :]
        for p in range(pixels):
            total += row[p]
        of_channels[c] = total


@compiled
def _add_moments(row, shift, sums, squares, length):  # type: ignore[no-untyped-def]
    for p in range(length):
        distance = row[p] - shift[p]
        sums[p] += distance
        squares[p] += distance * distance


@compiled
def _normalize_row(row, result, places, limits, length):  # type: ignore[no-untyped-def]
    center, scale, bias = places
    low, high = limits
    for p in range(length):
        z = (row[p] - center[p]) * scale[p] + bias[p]
        z = low if z < low else z
        result[p] = high if z > high else z


@compiled
def _add_gradients(row, gradient, places, limits, sums, products, length):  # type: ignore[no-untyped-def]
    center, scale, bias = places
    low, high = limits
    for p in range(length):
        distance, d = row[p] - center[p], gradient[p]
        z = distance * scale[p] + bias[p]
        d = np.float32(0) if (z <= low) | (z >= high) else d
        sums[p] += d
        products[p] += d * distance


@compiled
def _differentiate_row(row, gradient, result, places, means, limits, length):  # type: ignore[no-untyped-def]
    center, scale, bias = places
    mean_gradient, slope = means
    low, high = limits
    for p in range(length):
        distance, d = row[p] - center[p], gradient[p]
        z = distance * scale[p] + bias[p]
        d = np.float32(0) if (z <= low) | (z >= high) else d
        result[p] = scale[p] * (d - mean_gradient[p] - distance * slope[p])


@compiled
def _moments(rows, start, channels, pixels, vectors):  # type: ignore[no-untyped-def]
    """Return mean and variance [channels] of the channels whose maps begin at `start` of the rows [N, C * P]."""
    shift, sums, squares = vectors
    count, length = rows.shape[0] * pixels, channels * pixels
    # The mean of the first image is near enough to that of all, so that the squares around it lose nothing.
    first = np.empty(channels, np.float64)
    _gather(rows[0, start:], first, pixels)
    first /= pixels
    _spread(first, shift, pixels)
    sums[:length] = 0
    squares[:length] = 0
    for n in range(rows.shape[0]):
        _add_moments(rows[n, start:], shift, sums, squares, length)
    distances, of_squares = np.empty(channels, np.float64), np.empty(channels, np.float64)
    _gather(sums, distances, pixels)
    _gather(squares, of_squares, pixels)
    for c in range(channels):
        exact = np.float64(shift[c * pixels])
        distances[c] /= count
        of_squares[c] = of_squares[c] / count - distances[c] * distances[c]
        distances[c] += exact
    return distances, of_squares


@compiled
def normalize(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Do what `batch_norm_kernels.normalize` does; maps have fewer than LENGTH pixels."""
    x, weight, bias, y, statistics, running_mean, running_variance = arrays
    kept, epsilon, low, high = settings
    pixels = x.shape[2]
    rows, results = x.reshape(x.shape[0], -1), y.reshape(x.shape[0], -1)
    block = max(1, LENGTH // pixels)
    vectors = np.empty((5, block * pixels), np.float32)
    center, scale, shift, sums, squares = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    for first in range(begin, end, block):
        channels, start = min(block, end - first), first * pixels
        last, length = first + channels, channels * pixels
        mean, variance = _moments(rows, start, channels, pixels, (shift, sums, squares))
        statistics[0, first:last] = mean
        statistics[1, first:last] = 1 / np.sqrt(np.maximum(variance, 0) + epsilon)
        _spread(statistics[0, first:last], center, pixels)
        _spread(statistics[1, first:last] * weight[first:last], scale, pixels)
        _spread(bias[first:last], shift, pixels)
        for n in range(x.shape[0]):
            _normalize_row(rows[n, start:], results[n, start:], (center, scale, shift), (low, high), length)
        for c in range(channels):
            running_mean[first + c] = kept * running_mean[first + c] + (1 - kept) * mean[c]
            running_variance[first + c] = kept * running_variance[first + c] + (1 - kept) * variance[c]


@compiled
def differentiate(arrays, limits, begin, end):  # type: ignore[no-untyped-def]
    """Do what `batch_norm_kernels.differentiate` does; maps have fewer than LENGTH pixels."""
    x, weight, bias, statistics, of_y, of_x, of_weight, of_bias = arrays
    images, pixels = x.shape[0], x.shape[2]
    rows, of_results, of_rows = x.reshape(images, -1), of_y.reshape(images, -1), of_x.reshape(images, -1)
    block = max(1, LENGTH // pixels)
    vectors = np.empty((5, block * pixels), np.float32)
    center, scale, shift, sums, products = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    for first in range(begin, end, block):
        channels, start = min(block, end - first), first * pixels
        last, length = first + channels, channels * pixels
        inverse = statistics[1, first:last]
        _spread(statistics[0, first:last], center, pixels)
        _spread(inverse * weight[first:last], scale, pixels)
        _spread(bias[first:last], shift, pixels)
        sums[:length] = 0
        products[:length] = 0
        places = (center, scale, shift)
        for n in range(images):
            _add_gradients(rows[n, start:], of_results[n, start:], places, limits, sums, products, length)
        of_channels = np.empty((2, channels), np.float64)
        _gather(sums, of_channels[0], pixels)
        _gather(products, of_channels[1], pixels)
        of_bias[first:last], of_weight[first:last] = of_channels[0], of_channels[1] * inverse
        _spread(of_channels[0] / (images * pixels), sums, pixels)
        _spread(of_channels[1] / (images * pixels) * inverse * inverse, products, pixels)
        for n in range(images):
            row, gradient, result = rows[n, start:], of_results[n, start:], of_rows[n, start:]
            _differentiate_row(row, gradient, result, places, (sums, products), limits, length)
