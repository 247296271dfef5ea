"""The loops of Pillow's 8-bit resize, for Numba to compile: its weights, and its passes along rows and along columns.

Each pixel of the result is a weighted sum of the pixels in a window of the source. Pillow rounds the weights to
multiples of 1 / 2**22, sums in 32-bit integers and cuts every sum to 0..255, after the pass along rows and again after
that along columns (its libImaging/Resample.c). Sums of integers do not depend on their order, so these loops yield the
same bytes.

Memory is passed as pointers. The compiler knows that an index of a pointer is never counted from the end, and makes
vector instructions of the innermost loops; and the code needs neither Python nor Numba where it runs. A source of H
rows and W columns yields h rows and w columns.
"""

from __future__ import annotations

import math

from numba import float64, int32, int64, njit, types, uint8, uint32

ROWS = 16  # of a band that is turned into columns at a time: it stays in the processor's cache
BITS = 22  # of the fraction of a weight

# The code may call nothing of Python or Numba: no objects, no memory of its own, no exceptions.
SETTINGS = {"nogil": True, "error_model": "numpy", "_nrt": False}
_inner = njit(**SETTINGS)


@_inner
def _filter(number, x):  # type: ignore[no-untyped-def]
    """Return the weight at a distance x, of the filter of that number in `resampling.FILTERS`."""
    if number == 0:  # box
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    if number == 4:  # lanczos
        if not -3.0 <= x < 3.0:
            return 0.0
        if x == 0.0:
            return 1.0
        third = x / 3.0 * math.pi
        x = x * math.pi
        return math.sin(x) / x * (math.sin(third) / third)
    x = abs(x)
    if number == 1:  # bilinear
        return 1.0 - x if x < 1.0 else 0.0
    if number == 2:  # hamming: Pillow's 0.54 and 0.46 have single precision
        if x == 0.0:
            return 1.0
        if x >= 1.0:
            return 0.0
        x = x * math.pi
        return math.sin(x) / x * (0.5400000214576721 + 0.46000000834465027 * math.cos(x))
    if x < 1.0:  # bicubic, with a = -1/2
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


def weigh(sizes, support, windows, weights, scratch):  # type: ignore[no-untyped-def]
    """Fill the windows and weights of some pixels along a row or column of the result.

    Args:
        sizes: the number of the filter; the pixels of the source; where the part of the source begins and ends that
            becomes the result; the pixels of the result; the first of those to be weighed, and how many; the pixels
            that the longest window may have.
        support: float64 [1], how far the filter reaches, in pixels of the result.
        windows: [count, 2], where a window begins in the source, and its length.
        weights: [count, longest].
        scratch: float64 [longest].
    """
    number, size, begin, end = sizes[0], sizes[1], sizes[2], sizes[3]
    outputs, first, count, longest = sizes[4], sizes[5], sizes[6], sizes[7]
    scale = (end - begin) / outputs
    stretch = max(scale, 1.0)
    reach, shrink = support[0] * stretch, 1.0 / stretch
    for i in range(count):
        center = begin + (first + i + 0.5) * scale
        low = max(int64(center - reach + 0.5), 0)
        length = min(int64(center + reach + 0.5), size) - low
        total = 0.0
        for j in range(length):
            scratch[j] = _filter(number, (j + low - center + 0.5) * shrink)
            total += scratch[j]
        for j in range(length):
            share = scratch[j] / total if total != 0.0 else scratch[j]
            share *= 1 << BITS
            weights[i * longest + j] = int32(share - 0.5 if share < 0.0 else share + 0.5)
        windows[2 * i] = low
        windows[2 * i + 1] = length


@_inner
def _sum(sums, source, start, step, weights, first, taps, length):  # type: ignore[no-untyped-def]
    """Fill sums[p], for p below `length`, with the sum over the taps t of

        weights[first + t] * source[start + t * step + p]

    and a half, for rounding. Four taps are one pass: the sums are written and read less often.
    """
    half = int32(1 << (BITS - 1))
    t = 0
    if taps >= 4:
        k0, k1, k2, k3 = weights[first], weights[first + 1], weights[first + 2], weights[first + 3]
        s0, s1, s2, s3 = start, start + step, start + 2 * step, start + 3 * step
        for p in range(length):
            upper = k0 * int32(source[s0 + p]) + k1 * int32(source[s1 + p])
            sums[p] = half + upper + (k2 * int32(source[s2 + p]) + k3 * int32(source[s3 + p]))
        t = 4
    else:
        for p in range(length):
            sums[p] = half
    while taps - t >= 4:
        at, s0 = first + t, start + t * step
        k0, k1, k2, k3 = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
        s1, s2, s3 = s0 + step, s0 + 2 * step, s0 + 3 * step
        for p in range(length):
            upper = k0 * int32(source[s0 + p]) + k1 * int32(source[s1 + p])
            sums[p] += upper + (k2 * int32(source[s2 + p]) + k3 * int32(source[s3 + p]))
        t += 4
    if taps - t >= 2:
        k0, k1, s0 = weights[first + t], weights[first + t + 1], start + t * step
        s1 = s0 + step
        for p in range(length):
            sums[p] += k0 * int32(source[s0 + p]) + k1 * int32(source[s1 + p])
        t += 2
    if t < taps:
        k0, s0 = weights[first + t], start + t * step
        for p in range(length):
            sums[p] += k0 * int32(source[s0 + p])


@_inner
def _cut(target, start, sums, length):  # type: ignore[no-untyped-def]
    """Store sums as bytes, without their fraction and cut to 0..255, from `start` on."""
    for p in range(length):
        target[start + p] = uint8(min(max(sums[p] >> BITS, int32(0)), int32(255)))


def along_rows(sizes, source, windows, weights, target, words, turned, sums):  # type: ignore[no-untyped-def]
    """Resize some rows of the source.

    The window of a pixel lies along its row, and is too short for vectors. So a band of rows is turned into columns
    first: then a tap is the same step for all rows of the band, whose bytes lie one behind the other.

    Args:
        sizes: how many rows; W; w; the pixels that the longest window may have; the row of `target` to begin with; of
            the source, the number of the first pixel, and the pixels from a row to the next.
        source: pixels of four bytes, the last without meaning.
        windows, weights: of :func:`weigh`.
        target: uint8 [H, w, 3].
        words, turned: the same scratch memory, for (W + w) * ROWS pixels of four bytes.
        sums: scratch memory [ROWS * 4].
    """
    rows, W, w, longest, row, first, pitch = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]
    step = ROWS * 4  # bytes of a column of the band
    results = W * step
    for y in range(0, rows, ROWS):
        band = min(ROWS, rows - y)
        for r in range(band):
            begin = first + (y + r) * pitch
            for x in range(W):
                words[x * ROWS + r] = source[begin + x]
        for x in range(w):
            _sum(sums, turned, windows[2 * x] * step, step, weights, x * longest, windows[2 * x + 1], ROWS * 4)
            _cut(turned, results + x * step, sums, ROWS * 4)
        for r in range(band):
            pixel, to = results + r * 4, (row + y + r) * w * 3
            for _ in range(w):
                target[to] = turned[pixel]
                target[to + 1] = turned[pixel + 1]
                target[to + 2] = turned[pixel + 2]
                pixel += step
                to += 3


def along_columns(sizes, source, windows, weights, target, sums):  # type: ignore[no-untyped-def]
    """Resize columns: uint8 [H, length] to [h, length].

    Args:
        sizes: h; `length`; the pixels that the longest window may have; of the source, the number of the first byte,
            and the bytes from a row to the next.
        source: the rows.
        windows, weights: of :func:`weigh`.
        target: the result.
        sums: scratch memory [length].
    """
    h, length, longest, first, pitch = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    for y in range(h):
        begin = first + windows[2 * y] * pitch
        _sum(sums, source, begin, pitch, weights, y * longest, windows[2 * y + 1], length)
        _cut(target, y * length, sums, length)


_SIZES, _BYTES, _WORDS, _NUMBERS, _REALS = map(types.CPointer, (int64, uint8, uint32, int32, float64))

# What is called from outside, and the types of its arguments.
FUNCTIONS = {
    weigh: (_SIZES, _REALS, _NUMBERS, _NUMBERS, _REALS),
    along_rows: (_SIZES, _WORDS, _NUMBERS, _NUMBERS, _BYTES, _WORDS, _BYTES, _NUMBERS),
    along_columns: (_SIZES, _BYTES, _NUMBERS, _NUMBERS, _BYTES, _NUMBERS),
}
