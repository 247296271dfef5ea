"""Image files to RGB pixels: the only decoder of this package.

What a file becomes (always mode "RGB", 8 bits a channel, by Pillow alone):

    RGB, YCbCr, HSV, CMYK, YCCK     Pillow's own conversion; color profiles are not applied
    gray, 1-bit                     three equal channels
    palette                         the palette's colors
    alpha, palette transparency     dropped, not blended: hidden colors show, as in the reference pipelines
    gray of 9 to 16 bits            its 8 highest bits, as Pillow does for 16-bit color (its gray would clip to white)
    gray of 32 bits, signed, float  ImageError: such numbers have no defined black and white
    CIE L*a*b*                      ImageError: needs color management
    several frames or pages         the first
    EXIF orientation                ignored, unless `apply_orientation`; one that cannot be read counts as upright.
                                    Pillow itself always turns a TIFF by its orientation tag, here as everywhere

What is refused with an `ImageError`: a file that is missing, empty, not a regular file, in none of `FORMATS` (the
content decides; the suffix only tells a raw photo from the TIFF file that it is as well), larger than `MAX_PIXELS`, or
that Pillow reports as truncated or broken; and one that takes more than 128 MiB over 8 bytes a pixel, or 10 seconds
(`ImageLimits`): most such files are known by what they claim (`image_claims`); what cannot be known so is decoded in a
process that the system bounds (`image_guard`). What is not pixels does not decide: a JPEG or PNG that Pillow refuses
for its metadata is read without it. Damage that Pillow's libraries repair by themselves (some JPEG streams) stays
unnoticed, as in the reference pipelines.

Source of the rules: the evaluation of the released checkpoints opens each file with Pillow and ``convert("RGB")``.
"""

from __future__ import annotations

import io
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, ImageFile

from mobilenext.data.image_claims import read_claims
from mobilenext.data.image_decoding import FORMATS, Order, available_formats, convert, decode, pillow_errors
from mobilenext.data.image_guard import CannotStart, decode_elsewhere
from mobilenext.data.image_limits import MAX_PIXELS, ImageLimits
from mobilenext.data.listing import IMAGE_SUFFIXES, list_folder, refusal_of
from mobilenext.errors import DataError, ImageError, UsageError
from mobilenext.file_kinds import other_kind

__all__ = [
    "FORMATS", "IMAGE_SUFFIXES", "MAX_PIXELS", "ImageLimits", "PathLike", "as_rgb", "available_formats", "decode_image",
    "find_images", "paths_of", "read_image",
]  # fmt: skip

log = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]


def read_image(path: PathLike, *, apply_orientation: bool = False, limits: ImageLimits | None = None) -> Image.Image:
    """Decode one file to an image of mode "RGB": loaded, detached from the file, at most `MAX_PIXELS` pixels.

    Evaluation leaves `apply_orientation` off, because the reference pipelines do; turn it on for phone photographs.

    Args:
        path: the file.
        apply_orientation: turn the image by its EXIF orientation.
        limits: what the image may cost; None: the environment's, see :meth:`ImageLimits.from_environment`.

    Raises:
        ImageError: with the path, what was found and what to do; see the rules above.
        UsageError: Pillow was told, process-wide, to fill truncated images with gray.
    """
    path = Path(path)
    _require_whole_images()
    _require_file_with_content(path)
    order = _order(path, apply_orientation, limits)
    with pillow_errors(order), path.open("rb") as file:
        return _decode(order, file, path)


def decode_image(
    content: bytes,
    name: str = "image",
    *,
    apply_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
    limits: ImageLimits | None = None,
    wait_s: float | None = None,
) -> Image.Image:
    """As `read_image`, of a file's content that is in memory: the same rules, and errors that begin with `name`.

    Args:
        content: the whole file; name: what it is called in messages.
        apply_orientation: as of `read_image`.
        max_pixels: a lower limit than `MAX_PIXELS`.
        limits: as of `read_image`.
        wait_s: the content is a stranger's: always decode it in a process of its own, which is killed after so many
            seconds by the clock. Where none can be started, only what its claims bound is decoded.

    Raises: as `read_image`.
    """
    _require_whole_images()
    if not content:
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    order = _order(name, apply_orientation, limits, max_pixels)
    with pillow_errors(order):
        return _decode(order, io.BytesIO(content), content, wait_s)


def as_rgb(image: Image.Image, name: str = "image", *, apply_orientation: bool = False) -> Image.Image:
    """Return an image that Pillow has opened or made, in mode "RGB"; rules and errors are those of `read_image`."""
    order = _order(name, apply_orientation)
    with pillow_errors(order):
        if image.mode == "I" and image.format is None:  # of no file, which would tell how many of its bits count
            raise ImageError(f"{name}: 32-bit integers have no one meaning as 8-bit gray; convert the image to RGB")
        return convert(order, image)


def _order(
    name: Path | str, apply_orientation: bool, limits: ImageLimits | None = None, max_pixels: int | None = None
) -> Order:
    limits = limits or ImageLimits.from_environment()
    pixels = min(limits.pixels, MAX_PIXELS, max_pixels or MAX_PIXELS)
    return Order(name, apply_orientation, limits if pixels == limits.pixels else replace(limits, pixels=pixels))


def _decode(order: Order, file: BinaryIO, source: Path | bytes, wait_s: float | None = None) -> Image.Image:
    """Decode in this process if the claims bound what it costs, else, or with `wait_s`, in another one."""
    first_bytes = file.read(512)
    if sentence := refusal_of(Path(order.name), first_bytes):
        raise ImageError(f"{sentence}, or take it off the list")
    claims = read_claims(order.name, file, order.limits)
    bounded = claims.bounded(order.limits)
    if wait_s is not None or not bounded:
        try:
            return decode_elsewhere(order, source, wait_s)
        except CannotStart as error:  # logged, once
            if wait_s is not None and not bounded:
                raise ImageError(
                    f"{order.name}: {claims.format} is not decoded where no process of its own can be started"
                ) from error
    return decode(order, file, claims)


def _require_whole_images() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process: truncated images would pass as whole, "
            "their missing part gray; set it to False before reading images"
        )


def paths_of(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return one path, or several, as a list; a text is never taken apart.

    Raises:
        UsageError: something else.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    try:
        return [Path(path) for path in several]
    except TypeError as error:
        raise UsageError(f"{type(paths).__name__} where paths are expected: {error}") from error


def find_images(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return the image files that one path or several stand for, in order.

    A file stands for itself, whatever its name; a folder for the images below it, as `mobilenext.data.listing` chooses
    and sorts them.

    Raises:
        DataError: a path that does not exist, a folder without images, or a folder that cannot be listed.
        UsageError: no path.
    """
    images: list[Path] = []
    for path in paths_of(paths):
        if path.is_dir():
            listing = list_folder(path)
            if not listing.images:
                problem = other_kind(path) or "no images in this folder"
                raise DataError(f"{path}: {problem}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
            for note in listing.notes():
                log.info("%s: %s", path, note)
            images += listing.images
        elif path.exists():
            images.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return images


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
