"""Folders of classes with a few images of handwritten digits, 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digit_folders(root: Path, classes: int, images: int) -> Path:
    """Write the first `images` of each digit below `classes` into `root`/train, and return `root`."""
    digits = load_digits()
    for digit in range(classes):
        folder = root / "train" / str(digit)
        folder.mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == digit][:images]):
            Image.fromarray((pixels * 15).astype(np.uint8)).save(folder / f"{number}.png")
    return root
