"""Real images to compare logits on, when a network has been written in another format."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mobilenext.data import find_images, pixels_of, read_image
from mobilenext.data.images import paths_of
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.errors import MissingDependency, UsageError
from mobilenext.machine.packages import installed

IMAGES = 64
FEWEST = 8


def parity_images(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None, preprocessing: Preprocessing
) -> tuple[Pixels, list[str]]:
    """Return 64 images, uint8 [N, S, S, 3], resized and cropped, and their names.

    Args:
        images: files, and folders that are searched through, or one of them: 64 images, spread evenly. None: parts of
            the two photos that come with scikit-learn.

    Raises:
        UsageError: fewer than 8. MissingDependency: no images were named and scikit-learn is not installed.
    """
    if images is None:
        return _sample_photos(preprocessing)
    named = paths_of(images)
    paths = find_images(named)
    if len(paths) < FEWEST:
        where = ", ".join(map(str, named))
        raise UsageError(f"{len(paths)} images in {where}; expected at least {FEWEST} to compare on")
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(IMAGES, len(paths))).round().astype(int)]
    return np.stack([pixels_of(path, preprocessing) for path in chosen]), [path.name for path in chosen]


def sample_photo_files() -> list[Path]:
    """Return two photos of 640 x 427 pixels (China, a flower) that come with scikit-learn.

    Raises:
        MissingDependency: it is not installed.
    """
    if not installed("sklearn"):
        raise MissingDependency(
            "real images are needed: name some (--images FOLDER), or install scikit-learn, which brings two photos: "
            "pip install 'mobilenext[quickstart]'"
        )
    import sklearn.datasets

    return sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))


def _sample_photos(preprocessing: Preprocessing) -> tuple[Pixels, list[str]]:
    """Return the sample photos, cut into pieces of many sizes."""
    pixels, names = [], []
    for file in sample_photo_files():
        whole = read_image(file)
        for number in range(IMAGES // 2):
            side = 120 + 9 * number  # 120 to 399 pixels
            left = (number * 97) % (whole.width - side)
            top = (number * 53) % (whole.height - side)
            pixels.append(preprocessing.pixels(whole.crop((left, top, left + side, top + side))))
            names.append(f"{file.name} {side}x{side}+{left}+{top}")
    return np.stack(pixels), names
