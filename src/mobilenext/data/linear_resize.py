"""OpenCV's bilinear resize without OpenCV: no antialiasing, whatever the size, and its integer arithmetic.

Detectors of the SSD kind are trained and evaluated with it. Output pixel d of m takes its value at the position
f = (d + 0.5) * n / m - 0.5 of n input pixels, between the two that lie around it; beyond the edge, at the edge.

For uint8, OpenCV rounds the weights to multiples of 1 / 2048, and drops bits between the two passes:

    h     = S[s] * w0 + S[s + 1] * w1                                        along rows: up to 255 * 2048
    pixel = (((v0 * (h0 >> 4)) >> 16) + ((v1 * (h1 >> 4)) >> 16) + 2) >> 2   along columns

Along rows, a position beyond the edge is moved to the edge; along columns the weights stay and both pixels are the
edge's, which rounds differently. Where both sides are exactly halved, OpenCV takes the rounded mean of 2 x 2 pixels.

For float32, as in training, the weights are not rounded: `interpolate`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.arrays import Floats, Pixels

_SCALE = np.float32(2048)  # of the integer weights
_BAND = 32  # rows of the result that are computed at once: bounds the memory, and stays in the processor's cache


class Axis(NamedTuple):
    """Where the m pixels of an axis of the result come from."""

    first: npt.NDArray[np.intp]  # [m], number of the input pixel before the position
    second: npt.NDArray[np.intp]  # [m], and of the one behind it
    weight: Floats  # [m], of the second; the first has 1 - weight


def resize(image: Image.Image, width: int, height: int) -> Pixels:
    """Resize an image of mode "RGB" to uint8 [height, width, 3], equal to the byte to OpenCV's INTER_LINEAR.

    Beside the image and the result, a band of rows is in memory.
    """
    if image.size == (2 * width, 2 * height):
        return _halve(image, width, height)
    rows, columns = axis(image.height, height, keep_weights=True), axis(image.width, width)
    # Rows are taken as width * 3 numbers: NumPy takes single ones faster than groups of three.
    before, after = ((3 * numbers[:, None] + np.arange(3)).ravel() for numbers in (columns.first, columns.second))
    w0, w1 = (np.repeat(weights, 3) for weights in _integers(columns.weight))  # [width * 3]
    v0, v1 = (weights[:, None] for weights in _integers(rows.weight))  # [height, 1]
    resized = np.empty((height, width * 3), np.uint8)
    for start in range(0, height, _BAND):
        band = slice(start, start + _BAND)
        first, second = rows.first[band], rows.second[band]
        numbers, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        source = pick_rows(image, numbers).reshape(len(numbers), -1)  # [R, W * 3]
        sums = np.take(source, before, axis=1) * w0  # [R, width * 3]
        sums += np.take(source, after, axis=1) * w1
        sums >>= 4
        upper, lower = sums[places[: len(first)]], sums[places[len(first) :]]  # [band, width * 3]
        upper *= v0[band]
        lower *= v1[band]
        upper >>= 16
        lower >>= 16
        upper += lower
        upper += 2
        upper >>= 2
        resized[band] = upper
    return resized.reshape(height, width, 3)


def axis(inputs: int, outputs: int, *, keep_weights: bool = False) -> Axis:
    """Return where the `outputs` pixels of an axis of `inputs` pixels come from.

    `keep_weights` leaves the weights of positions beyond the edge as they are, as OpenCV does along columns.
    """
    # The division as OpenCV has it: it may differ from inputs / outputs in the last bit.
    scale = 1 / (outputs / inputs)
    positions = ((np.arange(outputs) + 0.5) * scale - 0.5).astype(np.float32)
    floors = np.floor(positions)
    weight = positions - floors
    first = floors.astype(np.intp)
    if not keep_weights:
        weight[(first < 0) | (first >= inputs - 1)] = 0
    return Axis(first.clip(0, inputs - 1), (first + 1).clip(0, inputs - 1), weight)


def interpolate(planes: Floats, rows: Axis, columns: Axis) -> Floats:
    """Interpolate float32 [C, H, W] to [C, rows, columns]."""
    across = planes[:, :, columns.first] * (1 - columns.weight)  # [C, H, columns]
    across += planes[:, :, columns.second] * columns.weight
    result = across[:, rows.first] * (1 - rows.weight[:, None])  # [C, rows, columns]
    result += across[:, rows.second] * rows.weight[:, None]
    return result


def pick_rows(image: Image.Image, numbers: npt.NDArray[np.intp], left: int = 0, right: int | None = None) -> Pixels:
    """Return rows [R, right - left, 3] of an image by their rising numbers, without a copy of the whole image."""
    right = image.width if right is None else right
    picked = np.empty((len(numbers), right - left, 3), np.uint8)
    for start in range(0, len(numbers), _BAND):
        band = numbers[start : start + _BAND]
        top, bottom = int(band[0]), int(band[-1]) + 1
        picked[start : start + _BAND] = np.asarray(image.crop((left, top, right, bottom)))[band - top]
    return picked


def _integers(weight: Floats) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return both weights as multiples of 1 / 2048, rounded with a half to the even number."""
    return np.rint((1 - weight) * _SCALE).astype(np.int32), np.rint(weight * _SCALE).astype(np.int32)


def _halve(image: Image.Image, width: int, height: int) -> Pixels:
    halved = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _BAND):
        stop = min(start + _BAND, height)
        source = pick_rows(image, np.arange(2 * start, 2 * stop)).astype(np.uint16)
        pairs = source[0::2] + source[1::2]
        halved[start:stop] = (pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2
    return halved
