"""Small pictures of images, as data that stands in the page itself."""

from __future__ import annotations

import base64
import io
import posixpath
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mobilenext.data import read_image
from mobilenext.data.preprocessing import Pixels
from mobilenext.errors import DataError, ImageError

SIDE = 128  # pixels of the longer side at most
QUALITY = 72


class Thumbnails:
    """Thumbnails of the images of one folder; what could not be read is counted, never replaced."""

    def __init__(self, folder: Path | None) -> None:
        """Prepare to read the images of a folder; without one there are no pictures.

        Raises:
            DataError: there is no such folder.
        """
        if folder is not None and not folder.is_dir():
            raise DataError(f"--data {folder}: no such folder; expected the folder that was evaluated, with its images")
        self.folder = folder
        self.shown = 0
        self.missing: list[str] = []
        self._uris: dict[str, str | None] = {}

    def of(self, name: str, draw: Callable[[Image.Image], Image.Image] | None = None, side: int = SIDE) -> str | None:
        """Return a data URI of the image with this name in the predictions, or None where it cannot be read.

        Args:
            name: of the image; runs share their images, which are read once.
            draw: returns what is shown in place of the image, such as the image with boxes; it is read again.
            side: pixels of the longer side at most, of what `draw` returns.
        """
        if self.folder is None:
            return None
        if draw is not None:
            return self._read(self.folder, name, draw, side)
        if name not in self._uris:
            self._uris[name] = self._read(self.folder, name)
        return self._uris[name]

    def _read(
        self, folder: Path, name: str, draw: Callable[[Image.Image], Image.Image] | None = None, side: int = SIDE
    ) -> str | None:
        try:
            image = read_image(inside(folder, name))
        except (ImageError, OSError, ValueError):
            if name not in self.missing:
                self.missing.append(name)
            return None
        self.shown += 1
        return as_data_uri(np.asarray(draw(image) if draw else image), side)

    def check(self) -> None:
        """Raise DataError where none of the images could be read: the user meant another folder."""
        if self.folder is not None and self.missing and not self.shown:
            raise DataError(
                f"--data {self.folder}: none of {len(self.missing)} images can be read there, {self.missing[0]!r} the "
                "first; expected the folder that was evaluated"
            )


def inside(folder: Path, name: str) -> Path:
    """Return the path of the image that a prediction names.

    The page may be passed on: predictions of unknown origin must not fetch other files into it.

    Raises:
        ImageError: it is outside the folder.
    """
    within = posixpath.normpath(name.replace("\\", "/"))
    if within.startswith(("/", "../")) or Path(within).is_absolute():
        raise ImageError(f"{name}: outside the folder")
    return folder / name


def as_data_uri(pixels: Pixels, side: int = SIDE) -> str:
    """Encode uint8 [H, W, 3] as a JPEG of at most `side` pixels, in a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
