"""Resize and crop by the compiled loops: which pixels are needed, in which order, and whether the bytes are Pillow's.

From version 13 on, Pillow begins with the pass along columns where the height shrinks by more than twice as many pixels
as the width; before, and else, with that along rows. The order decides what is rounded, and is kept.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.arrays import Pixels
from mobilenext.data.machine_code import Loops

FILTERS = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}  # how far they reach, in pixels

_ROWS = 16  # of a band, as in the loops
_BAND_PIXELS = 2**15  # of the source that are copied at a time: more would be new memory of the system, each time
_LARGEST_WIDTH = 2**16  # of the source: bounds the scratch memory
_LARGEST_BYTES = 2**26  # between the two passes

Box = tuple[int, int, int, int]  # left, top, right, bottom

# Size, box and crop of a test picture of 67 x 41 pixels: shrunk, in both orders of the passes, and enlarged.
_TESTS: tuple[tuple[tuple[int, int], Box, Box], ...] = (
    ((31, 19), (0, 0, 67, 41), (3, 2, 28, 17)),
    ((60, 19), (0, 0, 67, 41), (0, 1, 60, 18)),
    ((90, 50), (5, 7, 60, 39), (0, 0, 90, 50)),
)


def is_pillows(loops: Loops) -> bool:
    """Return whether the compiled loops yield the bytes of the Pillow that is installed, on test pictures."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (41, 67, 3), np.uint8))
    for interpolation in FILTERS:
        for size, box, crop in _TESTS:
            work = Work.of(image, size, interpolation, box, crop)
            expected = image.resize(size, Image.Resampling[interpolation.upper()], box).crop(crop)
            if work is None or not np.array_equal(work.run(loops, image), np.asarray(expected)):
                return False
    return True


@cache
def _pillow_begins_with_columns() -> bool:
    """Return whether this Pillow ever does, see above."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    size, bilinear = (44, 21), Image.Resampling.BILINEAR
    columns_first = picture.resize((40, 21), bilinear).resize(size, bilinear)
    return picture.resize(size, bilinear).tobytes() == columns_first.tobytes()


class _Weighed(NamedTuple):
    """Windows of the source along an axis, and their weights."""

    windows: npt.NDArray[np.int32]  # [count, 2], where each begins, from `first` on, and its length
    weights: npt.NDArray[np.int32]  # [count, longest]
    longest: int
    first: int  # pixel of the source that is needed
    last: int  # behind the last one


@dataclass(frozen=True)
class _Axis:
    """Some pixels along a row or column of the result, and the pixels of the source that they need."""

    filter: int
    support: float
    size: int  # of the source
    begin: int  # of the part that is resized
    end: int
    outputs: int  # of the whole result
    first: int
    count: int

    def weighed(self, loops: Loops) -> _Weighed:
        """Return the windows of these pixels, and their weights."""
        longest = 2 * math.ceil(self.support * max(1.0, (self.end - self.begin) / self.outputs)) + 1
        sizes = (self.filter, self.size, self.begin, self.end, self.outputs, self.first, self.count, longest)
        windows, weights = np.empty((self.count, 2), np.int32), np.empty((self.count, longest), np.int32)
        loops.weigh(np.array(sizes, np.int64), np.array([self.support]), windows, weights, np.empty(longest))
        first, last = int(windows[0, 0]), int(windows[-1].sum())
        windows[:, 0] -= first
        return _Weighed(windows, weights, longest, first, last)


@dataclass(frozen=True)
class Work:
    """What the compiled loops do with an image."""

    columns: _Axis
    rows: _Axis
    columns_first: bool  # the order of the passes

    @classmethod
    def of(
        cls, image: Image.Image, size: tuple[int, int], interpolation: str, box: Box | None, crop: Box | None
    ) -> Work | None:
        """Return the work; None for an extreme shape, which would take much memory, and for what Pillow refuses."""
        left, top, right, bottom = box or (0, 0, *image.size)
        x0, y0, x1, y1 = crop or (0, 0, *size)
        number, support = list(FILTERS).index(interpolation), FILTERS[interpolation]
        inside = 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
        within = 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
        fewer_rows, fewer_columns = image.height - size[1], image.width - size[0]
        columns_first = fewer_rows > max(0, 2 * fewer_columns) and _pillow_begins_with_columns()
        between = image.height * (image.width * 4 if columns_first else (x1 - x0) * 3)
        small = image.width <= _LARGEST_WIDTH and between <= _LARGEST_BYTES
        if image.mode != "RGB" or not (inside and within and small):
            return None
        return cls(
            _Axis(number, support, image.width, left, right, size[0], x0, x1 - x0),
            _Axis(number, support, image.height, top, bottom, size[1], y0, y1 - y0),
            columns_first,
        )

    def run(self, loops: Loops, image: Image.Image) -> Pixels:
        """Return the pixels of the crop, uint8 [h, w, 3]."""
        columns, rows = self.columns.weighed(loops), self.rows.weighed(loops)
        W, w, h = columns.last - columns.first, self.columns.count, self.rows.count
        between = np.empty((rows.last - rows.first, w, 3), np.uint8)
        scratch = np.empty((W + w) * _ROWS, np.uint32)
        sums = np.empty(max(_ROWS, W, w) * 4, np.int32)
        result = np.empty((h, w, 3), np.uint8)

        def along_rows(source: Source, number: int, target: Pixels, row: int) -> None:
            sizes = np.array([number, W, w, columns.longest, row, source.first, source.pitch], np.int64)
            loops.along_rows(sizes, source.memory, columns.windows, columns.weights, target, scratch, scratch, sums)

        def along_columns(source: Source, length: int, bytes_: int, target: Pixels) -> None:
            sizes = np.array([h, length, rows.longest, source.first * bytes_, source.pitch * bytes_], np.int64)
            loops.along_columns(sizes, source.memory, rows.windows, rows.weights, target, sums)

        whole = _in_place(image, columns.first, rows.first)
        if self.columns_first:
            shrunk = np.empty((h, W, 4), np.uint8)
            along_columns(whole or _copied(image, columns, rows.first, rows.last), W * 4, 4, shrunk)
            along_rows(Source(shrunk, 0, W), h, result, 0)
            return result
        if whole:
            along_rows(whole, rows.last - rows.first, between, 0)
        else:
            step = max(_ROWS, _BAND_PIXELS // W // _ROWS * _ROWS)
            for y in range(rows.first, rows.last, step):
                last = min(y + step, rows.last)
                along_rows(_copied(image, columns, y, last), last - y, between, y - rows.first)
        along_columns(Source(between, 0, w), w * 3, 3, result)
        return result


class Source(NamedTuple):
    """Pixels in memory, of four bytes or of three."""

    memory: Any  # an array, or an address
    first: int  # number of the first pixel that is needed
    pitch: int  # pixels from a row to the next
    keeper: Any = None  # lives as long as the memory


def _copied(image: Image.Image, columns: _Weighed, top: int, bottom: int) -> Source:
    """Return a copy of some rows, as far as they are needed: Pillow holds a pixel in four bytes."""
    part = image.crop((columns.first, top, columns.last, bottom))
    return Source(np.frombuffer(part.tobytes("raw", "RGBX"), np.uint8), 0, part.width)


def _in_place(image: Image.Image, left: int, top: int) -> Source | None:
    """Return Pillow's own memory of an image, from a pixel on; None where Pillow cannot show it.

    It can from version 11.3 on, by the C interface of Arrow, for an image of one block, up to 16 MiB.
    """
    aligned = Image.core.get_alignment()  # type: ignore[attr-defined]  # where rows begin; 1 unless somebody set it
    if aligned != 1 or not hasattr(image, "__arrow_c_array__"):
        return None
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:  # several blocks
        return None
    array = _ArrowArray.from_address(_address_in(capsule, b"arrow_array"))
    if array.length != image.width * image.height or array.n_children != 1 or array.offset:
        return None
    child = array.children[0].contents  # the bytes of the pixels
    if child.length != 4 * array.length or child.n_buffers != 2 or child.offset:
        return None
    return Source(child.buffers[1], top * image.width + left, image.width, (capsule, image))


class _ArrowArray(ctypes.Structure):
    """The structure of that name in Arrow's C data interface."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    *((name, ctypes.c_void_p) for name in ("dictionary", "release", "private_data")),
]
_address_in = ctypes.pythonapi.PyCapsule_GetPointer
_address_in.restype, _address_in.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
