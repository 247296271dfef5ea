"""Boxes as the network sees them: regressions, which move and scale a prior. Source: the authors' box_utils."""

from __future__ import annotations

import numpy as np

from mobilenext.arrays import Floats

# The network learns offsets and logarithms of scales divided by these, so that both are near 1 in size.
CENTER_VARIANCE, SIZE_VARIANCE = np.float32(0.1), np.float32(0.2)


def to_corners(boxes: Floats) -> Floats:
    """Convert boxes [..., 4] from center x, center y, width, height to x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def to_centers(corners: Floats) -> Floats:
    """Convert boxes [..., 4] from x1, y1, x2, y2 to center x, center y, width, height."""
    return np.concatenate([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], axis=-1)


def encode(corners: Floats, priors: Floats) -> Floats:
    """Return the regressions [..., 4] that turn the priors [..., 4] (centers) into these boxes x1 y1 x2 y2.

    The boxes must have a width and a height above 0.
    """
    boxes = to_centers(corners)
    offsets = (boxes[..., :2] - priors[..., :2]) / priors[..., 2:] / CENTER_VARIANCE
    scales = np.log(boxes[..., 2:] / priors[..., 2:]) / SIZE_VARIANCE
    return np.concatenate([offsets, scales], axis=-1)


def decode_boxes(regressions: Floats, priors: Floats) -> Floats:
    """Return the boxes x1 y1 x2 y2 [..., 4] that the regressions make of the priors (centers): `encode` undone.

    The exponential is not bounded: sides beyond the range of float32 become infinite.
    """
    boxes = np.empty(np.broadcast_shapes(regressions.shape, priors.shape), np.float32)
    # Column by column: NumPy is several times as slow where the last axis is as short as 2 or 4.
    with np.errstate(over="ignore", invalid="ignore"):
        for center, side in ((0, 2), (1, 3)):
            middle = regressions[..., center] * CENTER_VARIANCE * priors[..., side] + priors[..., center]
            half = np.exp(regressions[..., side] * SIZE_VARIANCE) * priors[..., side] / 2
            np.subtract(middle, half, out=boxes[..., center])
            np.add(middle, half, out=boxes[..., side])
    return boxes
