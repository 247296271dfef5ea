from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mobilenext.detection.augmentation import DetectionAugmentation

PAINTS = {1: (250, 20, 20), 2: (20, 250, 20), 3: (20, 20, 250)}


def painted() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A gray picture of 640 x 480 with a red, a green and a blue rectangle, which are its boxes."""
    pixels = np.full((480, 640, 3), 60, np.uint8)
    corners = np.array([[40, 60, 240, 200], [300, 220, 420, 460], [480, 40, 620, 140]])
    for label, (x1, y1, x2, y2) in enumerate(corners, 1):
        pixels[y1:y2, x1:x2] = PAINTS[label]
    return Image.fromarray(pixels), corners, np.array([1, 2, 3])


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stay_on_their_objects(seed: int) -> None:
    augmentation = DetectionAugmentation(distort=0)
    pixels, corners, labels = augmentation.sample(*painted(), np.random.default_rng(seed))
    assert (pixels.dtype, pixels.shape, corners.dtype, labels.dtype) == (
        np.float32,
        (320, 320, 3),
        np.float32,
        np.int64,
    )
    assert len(corners) == len(labels) > 0
    assert ((corners >= 0) & (corners <= 1)).all()
    for label, (x1, y1, x2, y2) in zip(labels, corners * 320, strict=True):
        mask = np.abs(pixels - PAINTS[int(label)]).max(axis=2) < 1  # only this object's own color, not the mixed edges
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        # One pixel of the result may be several of the picture, and the edges are mixed.
        np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], [x1, y1, x2, y2], atol=1.6)
