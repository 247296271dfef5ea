"""The compiled loops of batch norm in training, with the ReLU6 or ReLU behind it: forward, and all gradients.

    z = (x - mean) * weight / sqrt(variance + epsilon) + bias        y = min(max(z, low), high)

mean and variance are those of a channel over the batch, so the gradient of x has a part through each of them:

    d = gradient of y where low < z < high, 0 elsewhere
    gradient of bias   = sum of d
    gradient of weight = sum of d * (x - mean) / sqrt(variance + epsilon)
    gradient of x      = weight / sqrt(variance + epsilon) * (d - mean of d - (x - mean) * slope)
    slope              = mean of d * (x - mean) / (variance + epsilon)

Maps are read in the order in which they lie in memory, once for the sums and once for the result. A sum of many numbers
is added up in float64 from those of single maps. `batch_norm_small_maps` does the same for maps of few pixels.
"""

from __future__ import annotations

import numpy as np

from mobilenext.training.depthwise_kernels import compiled

# A comparison with NaN is false. So that NaN stays NaN, a value is replaced where it is beyond a limit, not kept where
# it is within.


@compiled
def _moments(row, shift):  # type: ignore[no-untyped-def]
    """Return the sums of the distances from `shift`, and of their squares."""
    distances, squares = np.float32(0), np.float32(0)
    for p in range(len(row)):
        distance = row[p] - shift
        distances += distance
        squares += distance * distance
    return distances, squares


@compiled
def _normalize_map(row, result, numbers):  # type: ignore[no-untyped-def]
    center, scale, bias, low, high = numbers
    for p in range(len(row)):
        z = (row[p] - center) * scale + bias
        z = low if z < low else z
        result[p] = high if z > high else z


@compiled
def _sums(row, gradient, numbers):  # type: ignore[no-untyped-def]
    """Return the sums of d, and of d times the distance from the mean."""
    center, scale, bias, low, high = numbers
    gradients, products = np.float32(0), np.float32(0)
    for p in range(len(row)):
        distance, d = row[p] - center, gradient[p]
        z = distance * scale + bias
        d = np.float32(0) if (z <= low) | (z >= high) else d
        gradients += d
        products += d * distance
    return gradients, products


@compiled
def _differentiate_map(row, gradient, result, numbers, means):  # type: ignore[no-untyped-def]
    center, scale, bias, low, high = numbers
    mean_gradient, slope = means
    for p in range(len(row)):
        distance, d = row[p] - center, gradient[p]
        z = distance * scale + bias
        d = np.float32(0) if (z <= low) | (z >= high) else d
        result[p] = scale * (d - mean_gradient - distance * slope)


@compiled
def normalize(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Fill y from x [N, C, P], for the channels from `begin` to `end`, and let the running statistics take part.

    `arrays` are x, weight, bias, y, the batch's statistics [2, C] (mean, and 1 / sqrt(variance + epsilon)), and the
    running mean and variance. `settings` are the share of the running statistics that is kept, epsilon, and the limits.
    """
    x, weight, bias, y, statistics, running_mean, running_variance = arrays
    kept, epsilon, low, high = settings
    images, _, pixels = x.shape
    sums, shift = np.zeros((2, end), np.float64), np.zeros(end, np.float32)
    for c in range(begin, end):  # of the first map: near enough to that of all that the squares around it lose nothing
        shift[c] = _moments(x[0, c], np.float32(0))[0] / pixels
    for n in range(images):
        for c in range(begin, end):
            distances, squares = _moments(x[n, c], shift[c])
            sums[0, c] += distances
            sums[1, c] += squares
    for c in range(begin, end):
        distance = sums[0, c] / (images * pixels)
        mean, variance = shift[c] + distance, sums[1, c] / (images * pixels) - distance * distance
        statistics[0, c], statistics[1, c] = mean, 1 / np.sqrt(max(variance, 0.0) + epsilon)
        running_mean[c] = kept * running_mean[c] + (1 - kept) * mean
        running_variance[c] = kept * running_variance[c] + (1 - kept) * variance
    for n in range(images):
        for c in range(begin, end):
            numbers = (statistics[0, c], statistics[1, c] * weight[c], bias[c], low, high)
            _normalize_map(x[n, c], y[n, c], numbers)


@compiled
def differentiate(arrays, limits, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x [N, C, P], weight and bias from that of y, for the channels from `begin` to `end`.

    `arrays` are x, weight, bias, the batch's statistics, and the gradients of y, x, weight and bias.
    """
    x, weight, bias, statistics, of_y, of_x, of_weight, of_bias = arrays
    low, high = limits
    images, _, pixels = x.shape
    sums, means = np.zeros((2, end), np.float64), np.zeros((2, end), np.float32)
    for n in range(images):
        for c in range(begin, end):
            numbers = (statistics[0, c], statistics[1, c] * weight[c], bias[c], low, high)
            gradients, products = _sums(x[n, c], of_y[n, c], numbers)
            sums[0, c] += gradients
            sums[1, c] += products
    for c in range(begin, end):
        inverse = statistics[1, c]
        of_bias[c], of_weight[c] = sums[0, c], sums[1, c] * inverse
        means[0, c], means[1, c] = sums[0, c] / (images * pixels), sums[1, c] / (images * pixels) * inverse * inverse
    for n in range(images):
        for c in range(begin, end):
            numbers = (statistics[0, c], statistics[1, c] * weight[c], bias[c], low, high)
            _differentiate_map(x[n, c], of_y[n, c], of_x[n, c], numbers, (means[0, c], means[1, c]))
