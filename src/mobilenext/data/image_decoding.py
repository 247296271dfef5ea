"""An open image file to RGB pixels by Pillow, in whatever process: the rules of `mobilenext.data.images`."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mobilenext.data.image_headers import MOST_PARTS, ROW_BYTES, Claims
from mobilenext.data.image_limits import DEFAULT_LIMITS, ImageLimits
from mobilenext.data.image_metadata import Info, without_metadata
from mobilenext.errors import ImageError
from mobilenext.file_kinds import HEAD, kind_of_head

# By content. Not "all that Pillow knows": EPS runs an external program, and the exotic rest is only attack surface.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_PLUGINS = {"JPEG2000": "Jpeg2K", "WEBP": "WebP"}  # Pillow's modules whose names are not those of the formats

_TURNS = {  # EXIF orientation -> what makes the image upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BLOCK = 2**18  # pixels that are converted or sent at a time


@dataclass(frozen=True)
class Order:
    """How one image is to be decoded."""

    name: str | os.PathLike[str]  # what messages call it
    apply_orientation: bool = False
    limits: ImageLimits = field(default=DEFAULT_LIMITS)


def blocks(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of about a megabyte, from left to right and from above, that cover an image."""
    width, height = size
    across = min(width, _BLOCK)
    down = max(1, _BLOCK // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(width, left + across), min(height, top + down)


@cache
def available_formats() -> tuple[str, ...]:
    """Return `FORMATS` without those that this build of Pillow lacks (AVIF came with 11.3); it would raise KeyError."""
    # Only their plugins: Image.init() imports 40 more, in a twentieth of a second of every process.
    for name in FORMATS:
        with suppress(ImportError):
            importlib.import_module(f"PIL.{_PLUGINS.get(name, name.capitalize())}ImagePlugin")
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decode(order: Order, file: BinaryIO, claims: Claims, opened: Callable[[int], None] = lambda _: None) -> Image.Image:
    """Return the image in `file`, of mode "RGB", loaded and detached from the file.

    Args:
        order: how; file: where; claims: what :func:`mobilenext.data.image_claims.read_claims` says of it.
        opened: called with the number of pixels, when the file is open and before they are decoded.

    Raises:
        ImageError: as :func:`mobilenext.data.images.read_image`, but for what the system has to stop.
    """
    with pillow_errors(order, file):
        if claims.format in ("JPEG", "PNG"):
            return _decode_in_spite_of_metadata(order, file, claims, opened)
        return _decode(order, file, {}, opened)


def _decode_in_spite_of_metadata(
    order: Order, file: BinaryIO, claims: Claims, opened: Callable[[int], None]
) -> Image.Image:
    """Open an image; one that is refused is tried without its metadata, which decides no pixel."""
    if claims.much_metadata:
        return _decode(order, *without_metadata(file, claims.format), opened)
    try:
        return _decode(order, file, {}, opened)
    except Exception as error:
        # Damaged pixels are an OSError that is no UnidentifiedImageError; they are damaged without metadata, too.
        if isinstance(error, ImageError | MemoryError) or type(error) is OSError:
            raise
        view, info = without_metadata(file, claims.format)
        if view is file:
            raise
        return _decode(order, view, info, opened)


def _decode(order: Order, file: BinaryIO, info: Info, opened: Callable[[int], None]) -> Image.Image:
    file.seek(0)
    image = Image.open(file, formats=available_formats())
    _require_size(order, image)
    _require_memory(order, image)
    opened(image.size[0] * image.size[1])
    rgb = _first_frame_of_webp(image) if image.format == "WEBP" else None
    if rgb is None:
        image.load()
        _require_size(order, image)  # again: an ICO may hold a larger image than it announces
    image.info.update(info)
    turn = _turn(image) if order.apply_orientation else None
    if rgb is None:
        rgb = _to_rgb(order, image)
    if turn is None:
        return rgb
    image.close()  # two images of 4 bytes a pixel at a time
    return rgb.transpose(turn)


def convert(order: Order, image: Image.Image) -> Image.Image:
    """Convert an open image of any mode to mode "RGB"; raises as `decode`, within `pillow_errors`."""
    _require_size(order, image)
    image.load()
    rgb = _to_rgb(order, image)
    turn = _turn(image) if order.apply_orientation else None
    return rgb if turn is None else rgb.transpose(turn)


def _require_size(order: Order, image: Image.Image) -> None:
    width, height = image.size
    if not 0 < width * height <= order.limits.pixels:
        raise ImageError(
            f"{order.name}: {width} x {height} = {width * height:,} pixels; "
            f"expected 1 to {order.limits.pixels:,}: shrink it or take it off the list"
        )


def _require_memory(order: Order, image: Image.Image) -> None:
    """Raise ImageError where a container's parts, or the format itself, need more memory than the limit."""
    pixels = image.size[0] * image.size[1]
    allowed = order.limits.bytes_for(pixels)
    needed = 8 * pixels + ROW_BYTES * image.size[1]
    what = f"{image.size[1]:,} rows of {image.size[0]:,} pixels"
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        if isinstance(image.tile, list) and len(image.tile) > MOST_PARTS:
            raise ImageError(
                f"{order.name}: {len(image.tile):,} strips or tiles; store it anew or take it off the list"
            )
        across, down = tags.get(ExifTags.Base.TileWidth), tags.get(ExifTags.Base.TileLength)
        if isinstance(across, int) and isinstance(down, int):
            bits = tags.get(ExifTags.Base.BitsPerSample, (1,))
            samples = tags.get(ExifTags.Base.SamplesPerPixel, 1)
            needed = 4 * pixels + across * down * samples * max(bits) // 8
            what = f"a tile of {across:,} x {down:,} for {image.size[0]:,} x {image.size[1]:,} pixels"
    elif image.format == "AVIF":
        needed, what = 10 * pixels, f"AVIF's {image.size[0]:,} x {image.size[1]:,} pixels"
    if needed > allowed:
        raise ImageError(
            f"{order.name}: {what} take {needed / 2**20:,.0f} MiB to decode; the limit is 8 bytes a pixel and "
            f"{order.limits.memory_mib:g} MiB, here {allowed / 2**20:,.0f} MiB: store it anew, take it off the list, "
            "or raise MOBILENEXT_IMAGE_MEMORY_MIB"
        )


def _first_frame_of_webp(image: Image.Image) -> Image.Image | None:
    """Return RGB pixels with 12 bytes a pixel at most, where Pillow's own way takes 20; None where Pillow is another.

    Pillow keeps the decoder's two canvases while it copies their content twice.
    """
    decoder: Any = getattr(image, "_decoder", None)
    if not hasattr(decoder, "get_next"):
        return None
    frame = decoder.get_next()
    if frame is None:
        raise OSError("the file holds no frame")
    del decoder
    image._decoder = None  # type: ignore[attr-defined]
    return Image.frombytes("RGB", image.size, frame[0], "raw", "RGBX")


def _to_rgb(order: Order, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _high_byte(order, image).convert("RGB")
    if image.mode in ("F", "LAB"):
        raise ImageError(
            f"{order.name}: pixels of mode {image.mode!r} ({'floating point' if image.mode == 'F' else 'CIE L*a*b*'}) "
            "have no one meaning as 8-bit RGB; convert the file to RGB or gray with a tool of your choice"
        )
    return image.convert("RGB")


def _high_byte(order: Order, image: Image.Image) -> Image.Image:
    """Convert gray of 9 to 16 bits to mode "L"."""
    bits = 16
    if isinstance(image, TiffImageFile):  # the one format whose gray Pillow does not scale to 16 bits
        (bits,) = image.tag_v2[ExifTags.Base.BitsPerSample]
        if image.mode == "I":
            raise ImageError(
                f"{order.name}: {bits}-bit integers, signed or longer than 16 bits, have no one meaning as 8-bit gray; "
                "convert the file to unsigned gray of 8 or 16 bits"
            )
    gray = Image.new("L", image.size)
    for box in blocks(image.size):
        block = np.asarray(image.crop(box))  # [H, W]
        gray.paste(Image.fromarray((block >> (bits - 8)).astype(np.uint8)), box)
    return gray


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the image upright (EXIF tag 274, as in PIL.ImageOps.exif_transpose)."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the stated rule: broken EXIF, which raises nearly anything too, is an upright image
        return None


@contextmanager
def pillow_errors(order: Order, file: BinaryIO | None = None) -> Iterator[None]:
    """Turn what Pillow raises and warns of into an ImageError, around opening, decoding and converting one file.

    Keep the rest out: a bug must not pass for a bad image."""
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
            f"{order.name}: not an image in a format that is read here ({', '.join(available_formats())}), or its "
            f"header is broken; {_beginning(file)}. Convert it or take it off the list"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{order.name}: more than {order.limits.pixels:,} pixels (Pillow: {one_line(error)}); shrink it or take it "
            "off the list"
        ) from error
    except MemoryError as error:
        raise ImageError(
            f"{order.name}: MemoryError: decoding it needs more memory than there is, or than 8 bytes a pixel and "
            f"{order.limits.memory_mib:g} MiB; shrink it or take it off the list"
        ) from error
    # Hostile bytes make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error, IndexError, ...
    except Exception as error:
        raise ImageError(
            f"{order.name}: Pillow cannot decode this file: {type(error).__name__}: {one_line(error)}. "
            "It is truncated, broken or of an unsupported kind; fetch it again or take it off the list"
        ) from error


def _beginning(file: BinaryIO | None) -> str:
    """Describe the first bytes and, if known, the kind of file: a saved web page, a pointer file, weights."""
    unknown = "its first bytes cannot be read"
    if file is None:
        return unknown
    try:
        file.seek(0)
        head = file.read(HEAD)
    except (OSError, ValueError):
        return unknown
    kind, start = kind_of_head(head), head[:12].decode("latin-1")
    begins = (
        f'it begins with "{start}"'
        if start.isascii() and start.isprintable()
        else (f"it begins with the bytes {head[:8].hex(' ')}")
    )
    return f"{begins} and is {kind.what}" if kind and kind.name != "image" else begins


def one_line(error: Exception) -> str:
    """Return the text of an error without line breaks and with bytes as a reader writes them, up to 200 characters."""
    return re.sub(r"\bb'([^']*)'", r'"\1"', " ".join(str(error).split()))[:200]
