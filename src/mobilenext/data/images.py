"""Image files to RGB pixels: the only decoder of this package.

What a file becomes (always mode "RGB", 8 bits a channel, by Pillow alone):

    RGB, YCbCr, HSV, CMYK, YCCK     Pillow's own conversion; colour profiles are not applied
    grey, 1-bit                     three equal channels
    palette                         the palette's colours
    alpha, palette transparency     dropped, not blended: hidden colours show, as in the reference pipelines
    grey of 9 to 16 bits            its 8 highest bits, as Pillow does for 16-bit colour (its grey would clip to white)
    grey of 32 bits, signed, float  ImageError: such numbers have no defined black and white
    CIE L*a*b*                      ImageError: needs colour management
    several frames or pages         the first
    EXIF orientation                ignored, unless `apply_orientation`; one that cannot be read counts as upright.
                                    Pillow itself always turns a TIFF by its orientation tag, here as everywhere

What is refused with an `ImageError`: a file that is missing, empty, not a regular file, in none of `FORMATS` (the
content decides; the suffix only tells a raw photo from the TIFF file that it is as well), larger than `MAX_PIXELS`, or
that Pillow reports as truncated or broken. Damage that Pillow's libraries repair by themselves (some JPEG streams)
stays unnoticed, as in the reference pipelines.

Source of the rules: the evaluation of the released checkpoints opens each file with Pillow and ``convert("RGB")``.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mobilenext.data.listing import IMAGE_SUFFIXES, list_folder, refusal_of
from mobilenext.errors import DataError, ImageError, UsageError

log = logging.getLogger(__name__)
PathLike: TypeAlias = str | os.PathLike[str]

# By content. Not "all that Pillow knows": EPS runs an external program, and the exotic rest is only attack surface.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# Pillow's own threshold for warning of a decompression bomb (1 GiB / 4 / 3), here a refusal. At Pillow's 4 bytes a
# pixel it is 341 MiB, twice that while converting. Not Image.MAX_IMAGE_PIXELS, which belongs to the whole process.
MAX_PIXELS = 89_478_485

_TURNS = {  # EXIF orientation -> what makes the image upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: PathLike, *, apply_orientation: bool = False) -> Image.Image:
    """Decode one file to an image of mode "RGB": loaded, detached from the file, at most `MAX_PIXELS` pixels.

    Evaluation leaves `apply_orientation` off, because the reference pipelines do; turn it on for phone photographs.

    Raises:
        ImageError: with the path, what was found and what to do; see the rules above.
        UsageError: Pillow was told, process-wide, to fill truncated images with grey.
    """
    path = Path(path)
    _require_whole_images()
    _require_file_with_content(path)
    with _pillow_errors_as_image_errors(path), path.open("rb") as file:
        return _decode(path, file, apply_orientation, MAX_PIXELS)


def decode_image(
    content: bytes, name: str = "image", *, apply_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """As `read_image`, of a file's content that is in memory: the same rules, and errors that begin with `name`.

    Args:
        content: the whole file; name: what it is called in messages.
        apply_orientation: as of `read_image`.
        max_pixels: a lower limit than `MAX_PIXELS`.

    Raises: as `read_image`.
    """
    _require_whole_images()
    if not content:
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    with _pillow_errors_as_image_errors(name, content):
        return _decode(name, io.BytesIO(content), apply_orientation, min(max_pixels, MAX_PIXELS))


def as_rgb(image: Image.Image, name: str = "image", *, apply_orientation: bool = False) -> Image.Image:
    """An image that Pillow has opened or made, in mode "RGB"; rules and errors are those of `read_image`."""
    with _pillow_errors_as_image_errors(name, b""):
        if image.mode == "I" and image.format is None:  # of no file, which would tell how many of its bits count
            raise ImageError(f"{name}: 32-bit integers have no one meaning as 8-bit grey; convert the image to RGB")
        _require_size(name, image, MAX_PIXELS)
        image.load()
        rgb = _to_rgb(name, image)
        return _upright(image, rgb) if apply_orientation else rgb


def _decode(name: Path | str, file: BinaryIO, apply_orientation: bool, max_pixels: int) -> Image.Image:
    first_bytes = file.read(512)
    file.seek(0)
    if sentence := refusal_of(Path(name), first_bytes):
        raise ImageError(f"{sentence}, or take it off the list")
    image = Image.open(file, formats=available_formats())
    _require_size(name, image, max_pixels)
    image.load()
    _require_size(name, image, max_pixels)  # again: an ICO may hold a larger image than it announces
    rgb = _to_rgb(name, image)
    return _upright(image, rgb) if apply_orientation else rgb


def _require_whole_images() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process: truncated images would pass as whole, "
            "their missing part grey; set it to False before reading images"
        )


def paths_of(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path, or each of several: a text is never taken apart.

    Raises:
        UsageError: something else.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    try:
        return [Path(path) for path in several]
    except TypeError as error:
        raise UsageError(f"{type(paths).__name__} where paths are expected: {error}") from error


def find_images(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The image files that one path or several stand for, in order: a file for itself, whatever its name; a folder for
    the images below it, as `mobilenext.data.listing` chooses and sorts them.

    Raises:
        DataError: a path that does not exist, a folder without images, or a folder that cannot be listed.
        UsageError: no path.
    """
    found: list[Path] = []
    for path in paths_of(paths):
        if path.is_dir():
            listing = list_folder(path)
            if not listing.images:
                raise DataError(f"{path}: no images in this folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
            for note in listing.notes():
                log.info("%s: %s", path, note)
            found += listing.images
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def _require_file_with_content(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path}: this is a folder; expected one image file")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageError(f"{path}: this is a device or a pipe; expected one image file")
    if status.st_size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes); fetch it again or take it off the list")


@contextmanager
def _pillow_errors_as_image_errors(path: Path | str, content: bytes | None = None) -> Iterator[None]:
    """Around opening, decoding and converting one file. Keep the rest out: a bug must not pass for a bad image.

    `path` is the file, or the name of `content` in memory.
    """
    try:
        # Pillow warns of what is decided here: size limits, odd metadata, transparency. Only its own warnings are
        # ignored, so that if threads overlap (the filters are shared) nobody else's can get lost.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: not an image in a format that is read here ({', '.join(available_formats())}), or its header "
            f"is broken; it begins with {_first_bytes(path, content)!r}. Convert it or take it off the list"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path}: more than {MAX_PIXELS:,} pixels (Pillow: {_one_line(error)}); shrink it or take it off the list"
        ) from error
    # Hostile bytes make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error, IndexError,
    # MemoryError, ...
    except Exception as error:
        raise ImageError(
            f"{path}: Pillow cannot decode this file: {type(error).__name__}: {_one_line(error)}. "
            "It is truncated, broken or of an unsupported kind; fetch it again or take it off the list"
        ) from error


def _require_size(path: Path | str, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} = {width * height:,} pixels; "
            f"expected 1 to {max_pixels:,}: shrink it or take it off the list"
        )


def _to_rgb(path: Path | str, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _high_byte(path, image).convert("RGB")
    if image.mode in ("F", "LAB"):
        raise ImageError(
            f"{path}: pixels of mode {image.mode!r} ({'floating point' if image.mode == 'F' else 'CIE L*a*b*'}) have "
            "no one meaning as 8-bit RGB; convert the file to RGB or grey with a tool of your choice"
        )
    return image.convert("RGB")


def _high_byte(path: Path | str, image: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits to mode "L"."""
    bits = 16
    if isinstance(image, TiffImageFile):  # the one format whose grey Pillow does not scale to 16 bits
        (bits,) = image.tag_v2[ExifTags.Base.BitsPerSample]
        if image.mode == "I":
            raise ImageError(
                f"{path}: {bits}-bit integers, signed or longer than 16 bits, have no one meaning as 8-bit grey; "
                "convert the file to unsigned grey of 8 or 16 bits"
            )
    return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))  # [H, W]


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """`rgb` turned by the orientation that `image` carries (EXIF tag 274, as in PIL.ImageOps.exif_transpose)."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the stated rule: broken EXIF, which raises nearly anything too, is an upright image
        return rgb
    return rgb if turn is None else rgb.transpose(turn)


@cache
def available_formats() -> tuple[str, ...]:
    """`FORMATS` without those that this build of Pillow lacks (AVIF came with 11.3); it would raise KeyError."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _first_bytes(path: Path | str, content: bytes | None) -> bytes:
    """They tell a saved web page or a pointer file from a broken image."""
    if content is not None:
        return content[:12]
    try:
        with Path(path).open("rb") as file:
            return file.read(12)
    except OSError:
        return b""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
