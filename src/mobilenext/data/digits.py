"""Real handwriting that needs no download: scikit-learn's 1,797 digits as an image folder.

The digits are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998):
8 x 8 pixels of 17 gray levels, written by 13 people.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from mobilenext.errors import MissingDependency, OutputError, UsageError
from mobilenext.files import write_atomically

# In the order of the set: the first two thirds train, the last third is never trained on.
TRAIN_IMAGES = 1198
VAL_IMAGES = 599
PARTS = {"train": slice(0, TRAIN_IMAGES), "val": slice(TRAIN_IMAGES, TRAIN_IMAGES + VAL_IMAGES)}


def write_digits(folder: Path, part: str = "val") -> Path:
    """Write one part as ``imgs/*.png`` and ``<part>_list.txt`` below `folder`; a part already there is kept.

    Args:
        folder: made when absent.
        part: ``train`` (1,198 images) or ``val`` (599).

    Raises:
        MissingDependency: scikit-learn is not installed.
        OutputError: the folder cannot be written.
    """
    if part not in PARTS:
        raise UsageError(f"part is {part!r}; expected train or val")
    list_file = folder / f"{part}_list.txt"
    if list_file.is_file():
        return folder
    digits = _load_digits()
    lines = []
    try:
        (folder / "imgs").mkdir(parents=True, exist_ok=True)
        for number in range(len(digits.images))[PARTS[part]]:
            name = f"digit_{number:04}.png"
            _picture(digits, number).save(folder / "imgs" / name)
            lines.append(f"{name} {digits.target[number]}\n")
        (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
        # Last and at once, so that a list is only there when its images are.
        write_atomically(list_file, "".join(lines).encode())
    except OSError as error:
        raise OutputError(f"cannot write the digits to {folder}: {error.strerror or error}") from error
    return folder


def sample_digits(count: int) -> list[bytes]:
    """Return PNG files of images of the validation part, of different digits, always the same.

    Args:
        count: of images, up to 10.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    digits, files = _load_digits(), dict[int, bytes]()
    for number in range(TRAIN_IMAGES, TRAIN_IMAGES + VAL_IMAGES):
        content = io.BytesIO()
        if digits.target[number] not in files and len(files) < count:
            _picture(digits, number).save(content, "PNG")
            files[digits.target[number]] = content.getvalue()
    return list(files.values())


def _load_digits() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "scikit-learn, which holds the digits, is not installed: `pip install 'mobilenext[quickstart]'`"
        ) from error
    return load_digits()


def _picture(digits: Any, number: int) -> Image.Image:
    pixels = (digits.images[number] * (255 / 16)).round().astype("uint8")  # [8, 8], 0 to 16 before
    return Image.fromarray(pixels)
