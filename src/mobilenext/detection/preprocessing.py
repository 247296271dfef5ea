"""From an RGB picture to the input of a detector, as the authors evaluate: squashed, and their mean and deviation."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mobilenext.arrays import Floats, Pixels
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import STANDARD_SIZE, detection_preprocessing


def preprocess(image: Pixels, *, image_size: int = STANDARD_SIZE) -> Floats:
    """Convert a picture, uint8 [H, W, 3] in RGB, to the input of a detector: float32 [3, image_size, image_size].

    Raises:
        UsageError: another type or shape.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"an image is {kind}; expected an array uint8 [H, W, 3]")
    if not image.size:
        raise UsageError(f"an image is {list(image.shape)}; expected at least 1 x 1 pixels")
    return detection_preprocessing(image_size)(Image.fromarray(image))
