"""The pictures of a prediction: each image with what the network answers drawn on it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from mobilenext.errors import UsageError
from mobilenext.files import names_apart, refuse_overwriting, write_atomically

# A picture keeps the name of its image, and with it the format, where this is one of these; others become PNG.
FORMATS: Mapping[str, str] = {
    ".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
QUALITY = 92  # of JPEG and WebP: letters and lines stay sharp

Draw: TypeAlias = Callable[[Image.Image, Mapping[str, Any]], Image.Image]


@dataclass(frozen=True)
class Pictures:
    """Where the picture of each image goes, and how it is drawn."""

    paths: Sequence[Path]  # of the pictures, in the order of the images
    draw: Draw

    def write(self, place: int, image: Image.Image, answer: Mapping[str, Any]) -> Path:
        """Write the picture of the image at `place`, as a whole or not at all, and return its path.

        Raises:
            OutputError: it cannot be written.
        """
        path, content = self.paths[place], io.BytesIO()
        options = {"quality": QUALITY} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
        self.draw(image, answer).save(content, FORMATS[path.suffix.lower()], **options)
        write_atomically(path, content.getvalue())
        return path


def picture_paths(output: Path, names: Sequence[str], files: Sequence[Path]) -> list[Path]:
    """Return the path of the picture for each image.

    Args:
        output: a folder, or the picture of a single image.
        names: of the images. Where two are equal, from two folders, the later one gets a number.
        files: that the images are read from, none of which may be written over.

    Raises:
        UsageError: a picture would be written over one of the images, or one picture was named for several.
    """
    if output.suffix.lower() in FORMATS and not output.is_dir():
        if len(names) > 1:
            raise UsageError(f"{len(names)} images and one picture {output}; expected a folder")
        paths = [output]
    else:
        if output.exists() and not output.is_dir():
            raise UsageError(f"output is {output}, a file that is no picture; expected a folder, or a picture's name")
        paths = [output / name for name in names_apart([_picture_name(name) for name in names])]
    refuse_overwriting(paths, files)
    return paths


def _picture_name(name: str) -> str:
    path = Path(name)
    return path.name if path.suffix.lower() in FORMATS else f"{path.name}.png"
