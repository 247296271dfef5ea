"""The compiled loops of batch norm in training, with the ReLU6 or ReLU behind it: forward, and all gradients.

A channel is done before the next one begins, so its values stay in the cache while the statistics are taken, the values
normalized and cut: memory is read once and written once, where operators of their own do so in each of their passes.

    y[p] = min(max((x[p] - mean) * weight / sqrt(variance + epsilon) + bias, low), high)

mean and variance are those of the channel over the batch, so the gradient of x has a part through each of them:

    z[p] = what is cut                    d[p] = gradient of y[p] where low < z[p] < high, 0 elsewhere
    gradient of bias   = sum of d         gradient of weight = sum of d[p] * (x[p] - mean) / sqrt(variance + epsilon)
    gradient of x[p]   = scale * (d[p] - mean of d - (x[p] - mean) / (variance + epsilon) * mean of d * (x - mean))
"""

from __future__ import annotations

import numpy as np
from numba import njit

SMALL = 64  # pixels of a map, below which a channel is copied: its rows are too short for vectors

# Sums may be reordered (that is what vectors need), but NaN and infinity must stay what they are.
_compiled = njit(fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy", cache=True)

# A channel is a row of each image: values[image, channel]. Where the rows are short, they are copied behind one another
# into a scratch memory, which then is an array of one image and one channel.


@_compiled
def _read(values, c, scratch):  # type: ignore[no-untyped-def]
    """Copy the rows of a channel behind one another."""
    pixels = values.shape[2]
    for n in range(values.shape[0]):
        row, target = values[n, c], scratch[0, 0, n * pixels :]
        for p in range(pixels):
            target[p] = row[p]


@_compiled
def _write(values, c, scratch):  # type: ignore[no-untyped-def]
    """Copy them back."""
    pixels = values.shape[2]
    for n in range(values.shape[0]):
        row, source = values[n, c], scratch[0, 0, n * pixels :]
        for p in range(pixels):
            row[p] = source[p]


@_compiled
def _sum(values, c):  # type: ignore[no-untyped-def]
    total = 0.0
    for n in range(values.shape[0]):
        row, part = values[n, c], np.float32(0)
        for p in range(len(row)):
            part += row[p]
        total += part
    return total


@_compiled
def _sum_of_squares(values, c, mean):  # type: ignore[no-untyped-def]
    total = 0.0
    for n in range(values.shape[0]):
        row, part = values[n, c], np.float32(0)
        for p in range(len(row)):
            part += (row[p] - mean) * (row[p] - mean)
        total += part
    return total


# A comparison with NaN is false. So that NaN stays NaN, a value is replaced where it is beyond a limit, not kept where
# it is within.


@_compiled
def _normalize_channel(x, y, c, numbers):  # type: ignore[no-untyped-def]
    mean, scale, bias, low, high = numbers
    for n in range(x.shape[0]):
        row, target = x[n, c], y[n, c]
        for p in range(len(row)):
            z = (row[p] - mean) * scale + bias
            z = low if z < low else z
            target[p] = high if z > high else z


@_compiled
def _sums_of_gradients(x, of_y, c, numbers):  # type: ignore[no-untyped-def]
    """Return the sum of d, and that of d times the distance from the mean."""
    mean, scale, bias, low, high = numbers
    total, of_products = 0.0, 0.0
    zero = np.float32(0)
    for n in range(x.shape[0]):
        row, gradient = x[n, c], of_y[n, c]
        part = product = zero
        for p in range(len(row)):
            distance = row[p] - mean
            z = distance * scale + bias
            d = gradient[p]
            d = zero if (z <= low) | (z >= high) else d
            part += d
            product += d * distance
        total += part
        of_products += product
    return total, of_products


@_compiled
def _differentiate_channel(x, of_y, of_x, c, numbers, means):  # type: ignore[no-untyped-def]
    """Fill the gradient of x; `means` are the mean of d, and the factor of the distance from the mean."""
    mean, scale, bias, low, high = numbers
    mean_gradient, slope = means
    zero = np.float32(0)
    for n in range(x.shape[0]):
        row, gradient, target = x[n, c], of_y[n, c], of_x[n, c]
        for p in range(len(row)):
            distance = row[p] - mean
            z = distance * scale + bias
            d = gradient[p]
            d = zero if (z <= low) | (z >= high) else d
            target[p] = scale * (d - mean_gradient - distance * slope)


@_compiled
def normalize(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Fill y from x [N, C, P], for the channels from `begin` to `end`, and let the running statistics take part.

    `arrays` are x, weight, bias, y, the batch's statistics [2, C] (mean, and 1 / sqrt(variance + epsilon)), and the
    running mean and variance. `settings` are the share of the running statistics that is kept, epsilon, and the limits.
    """
    x, weight, bias, y, statistics, running_mean, running_variance = arrays
    kept, epsilon, low, high = settings
    count = x.shape[0] * x.shape[2]
    small = x.shape[2] < SMALL
    scratch = np.empty((1, 1, count if small else 0), np.float32)
    for c in range(begin, end):
        if small:
            _read(x, c, scratch)
        mean = _sum(scratch, 0) / count if small else _sum(x, c) / count
        center = np.float32(mean)
        squares = _sum_of_squares(scratch, 0, center) if small else _sum_of_squares(x, c, center)
        variance = squares / count
        inverse = 1 / np.sqrt(variance + epsilon)
        numbers = (center, np.float32(inverse * weight[c]), bias[c], low, high)
        if small:
            _normalize_channel(scratch, scratch, 0, numbers)
            _write(y, c, scratch)
        else:
            _normalize_channel(x, y, c, numbers)
        statistics[0, c], statistics[1, c] = mean, inverse
        running_mean[c] = kept * running_mean[c] + (1 - kept) * mean
        running_variance[c] = kept * running_variance[c] + (1 - kept) * variance


@_compiled
def differentiate(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Fill the gradients of x [N, C, P], weight and bias from that of y, for the channels from `begin` to `end`.

    `arrays` are x, weight, bias, the batch's statistics, and the gradients of y, x, weight and bias.
    """
    x, weight, bias, statistics, of_y, of_x, of_weight, of_bias = arrays
    low, high = settings
    count = x.shape[0] * x.shape[2]
    small = x.shape[2] < SMALL
    scratch = np.empty((1, 1, count if small else 0), np.float32)
    gradient = np.empty((1, 1, count if small else 0), np.float32)
    for c in range(begin, end):
        inverse = statistics[1, c]
        numbers = (statistics[0, c], inverse * weight[c], bias[c], low, high)
        if small:
            _read(x, c, scratch)
            _read(of_y, c, gradient)
            total, of_products = _sums_of_gradients(scratch, gradient, 0, numbers)
        else:
            total, of_products = _sums_of_gradients(x, of_y, c, numbers)
        of_bias[c], of_weight[c] = total, of_products * inverse
        means = (np.float32(total / count), np.float32(of_products / count * inverse * inverse))
        if small:
            _differentiate_channel(scratch, gradient, scratch, 0, numbers, means)
            _write(of_x, c, scratch)
        else:
            _differentiate_channel(x, of_y, of_x, c, numbers, means)
