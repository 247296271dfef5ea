"""What training does to a picture and its boxes before the network sees them.

    colors      brightness, contrast, saturation, hue, order of the channels
    expand      the picture at some place of a larger canvas of the mean color
    crop        a part of that, which overlaps a box by some minimum and has the center of a box in it
    flip        left to right
    resize      to the input of the network, whatever the aspect

The rules and values are the authors'. Every draw comes from the generator that is passed in. All draws are made first:
no canvas is painted, and only those rows and columns of the picture are touched that the result is interpolated from,
so the time hardly depends on the size of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.arrays import Floats
from mobilenext.data.linear_resize import Axis, axis, interpolate, pick_rows
from mobilenext.detection.colors import Colors
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import LARGEST_SIZE, MEAN_COLOR, SMALLEST_SIZE, STANDARD_SIZE

_TRIES = 50  # to place a crop, before another minimum of the overlap is drawn
_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))

Labels = npt.NDArray[np.int64]


class Boxes(NamedTuple):
    """The boxes of a picture."""

    corners: npt.NDArray[np.float64]  # [K, 4], x1 y1 x2 y2
    labels: Labels  # [K]

    def sound(self) -> Boxes:
        """Return those with a width and a height."""
        return self.where(np.all(self.corners[:, 2:] > self.corners[:, :2], axis=1))

    def where(self, chosen: npt.NDArray[np.bool_]) -> Boxes:
        """Return some of them."""
        return Boxes(self.corners[chosen], self.labels[chosen])


class Window(NamedTuple):
    """A rectangle, in pixels of the picture; it may reach beyond the picture."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class DetectionAugmentation:
    """How a picture with boxes is varied for training. The defaults are the authors'.

    Raises:
        UsageError: a value outside its range.
    """

    image_size: int = STANDARD_SIZE  # pixels, side of the result
    distort: float = 0.5  # probability of each of the five changes of color
    brightness: float = 32.0  # largest number that is added to or taken from values of 0 to 255
    contrast: tuple[float, float] = (0.5, 1.5)  # least and largest factor of all values
    saturation: tuple[float, float] = (0.5, 1.5)  # least and largest factor of the saturation
    hue: float = 18.0  # degrees: largest turn of the hue
    expand: float = 0.5  # probability of a larger canvas
    expansion: tuple[float, float] = (1.0, 4.0)  # its least and largest sides / those of the picture
    crop: float = 1.0  # probability that a kind of crop is drawn; the whole picture is one of the kinds
    crop_sides: tuple[float, float] = (0.3, 1.0)  # least and largest sides of a crop / those of the picture
    crop_ratio: tuple[float, float] = (0.5, 2.0)  # least and largest height / width of a crop
    # Kinds of crops beside the whole picture and any part: the least overlap (IoU) with the box that it overlaps most.
    crop_ious: tuple[float, ...] = (0.1, 0.3, 0.7, 0.9)
    flip: float = 0.5  # probability

    def __post_init__(self) -> None:
        size = self.image_size
        self._require(
            "image_size",
            type(size) is int and SMALLEST_SIZE <= size <= LARGEST_SIZE,
            f"a whole number of pixels from {SMALLEST_SIZE} to {LARGEST_SIZE}",
        )
        for name, largest in (
            ("distort", 1.0), ("brightness", 255.0), ("hue", 180.0), ("expand", 1.0), ("crop", 1.0), ("flip", 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            self._require(name, _is_number(value) and 0 <= value <= largest, f"a number from 0 to {largest:g}")
            object.__setattr__(self, name, float(value))
        for name, least, largest in (
            ("contrast", 0, 10), ("saturation", 0, 10), ("expansion", 1, 10), ("crop_sides", 0.01, 1),
            ("crop_ratio", 0.01, 100),
        ):  # fmt: skip
            pair = getattr(self, name)
            rising = _are_numbers(pair) and len(pair) == 2 and least <= pair[0] <= pair[1] <= largest
            self._require(name, rising, f"the least and the largest number, from {least:g} to {largest:g}")
            object.__setattr__(self, name, tuple(map(float, pair)))
        ious = self.crop_ious
        self._require(
            "crop_ious", _are_numbers(ious) and all(0 <= iou < 1 for iou in ious), "numbers from 0 to below 1"
        )
        object.__setattr__(self, "crop_ious", tuple(map(float, ious)))

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def sample(
        self, image: Image.Image, corners: npt.ArrayLike, labels: npt.ArrayLike, random: np.random.Generator
    ) -> tuple[Floats, Floats, Labels]:
        """Return one variation of a picture.

        Boxes without width or height are dropped with their labels, before and after each step.

        Args:
            image: of mode "RGB".
            corners: [K, 4], x1 y1 x2 y2 in pixels of the picture. K may be 0.
            labels: [K].
            random: decides everything.

        Returns:
            float32 [image_size, image_size, 3] around 0 to 255, not normalized; corners float32 [k, 4] as fractions of
            that; labels int64 [k].

        Raises:
            UsageError: an image of another mode.
        """
        if image.mode != "RGB":
            raise UsageError(f"an image of mode {image.mode!r}; expected 'RGB': read files with read_image")
        boxes = Boxes(np.array(corners, np.float64).reshape(-1, 4), np.array(labels, np.int64).reshape(-1)).sound()
        colors = self._draw_colors(random)
        window = self._draw_canvas(image.width, image.height, random)
        window, boxes = self._draw_crop(window, boxes, random)
        flipped = random.random() < self.flip
        pixels = _render(image, window, self.image_size, colors)
        shares = (boxes.corners - (window.left, window.top) * 2) / ((window.width, window.height) * 2)
        if flipped:
            pixels = pixels[:, :, ::-1]
            shares[:, [0, 2]] = 1 - shares[:, [2, 0]]
        rounded = shares.astype(np.float32)  # a box may lose its width
        result = Boxes(rounded.astype(np.float64), boxes.labels).sound()
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)), result.corners.astype(np.float32), result.labels

    def _draw_colors(self, random: np.random.Generator) -> Colors:
        colors = Colors(contrast_first=bool(random.random() < 0.5))
        if random.random() < self.distort:
            colors = colors._replace(brightness=random.uniform(-self.brightness, self.brightness))
        if random.random() < self.distort:
            colors = colors._replace(contrast=random.uniform(*self.contrast))
        if random.random() < self.distort:
            colors = colors._replace(saturation=random.uniform(*self.saturation))
        if random.random() < self.distort:
            colors = colors._replace(hue=random.uniform(-self.hue, self.hue))
        if random.random() < self.distort:
            colors = colors._replace(order=_ORDERS[random.integers(len(_ORDERS))])
        return colors

    def _draw_canvas(self, width: int, height: int, random: np.random.Generator) -> Window:
        """Return the canvas that a `width` x `height` picture lies on."""
        if random.random() >= self.expand:
            return Window(0, 0, width, height)
        ratio = random.uniform(*self.expansion)
        left, top = random.uniform(0, width * (ratio - 1)), random.uniform(0, height * (ratio - 1))
        return Window(-int(left), -int(top), int(width * ratio), int(height * ratio))

    def _draw_crop(self, canvas: Window, boxes: Boxes, random: np.random.Generator) -> tuple[Window, Boxes]:
        """Return a part of the canvas and the boxes in it, in pixels of the picture and cut to the part."""
        if random.random() >= self.crop:
            return canvas, boxes
        kinds = (None, 0.0, *self.crop_ious)  # the whole canvas, any part, and parts that overlap a box
        while (least := kinds[random.integers(len(kinds))]) is not None:
            parts = self._draw_parts(canvas, random)
            ious, centers_inside = _compare(parts, boxes.corners)  # [tries, K] both
            good = np.ones(len(parts), bool)
            if len(boxes.labels):
                good = (ious.max(axis=1) >= least) & centers_inside.any(axis=1)
            if good.any():
                number = int(good.argmax())
                left, top, right, bottom = parts[number].tolist()
                inside = boxes.where(centers_inside[number])
                cut = inside.corners.clip((left, top) * 2, (right, bottom) * 2)
                return Window(left, top, right - left, bottom - top), Boxes(cut, inside.labels).sound()
        return canvas, boxes

    def _draw_parts(self, canvas: Window, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return parts of the canvas, x1 y1 x2 y2 in pixels of the picture: those of some tries that have the shape."""
        sides = random.uniform(*self.crop_sides, (_TRIES, 2)) * (canvas.width, canvas.height)  # [tries, 2]
        corners = random.random((_TRIES, 2)) * ((canvas.width, canvas.height) - sides)
        parts = np.concatenate([corners, corners + sides], axis=1).astype(np.int64)  # rounded down
        ratios = sides[:, 1] / sides[:, 0]
        shaped = (self.crop_ratio[0] <= ratios) & (ratios <= self.crop_ratio[1])
        filled = (parts[:, 2:] > parts[:, :2]).all(axis=1)
        return parts[shaped & filled] + (canvas.left, canvas.top) * 2


def _compare(
    parts: npt.NDArray[np.int64], corners: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the overlaps (IoU) of parts [T, 4] with boxes [K, 4], and which boxes have their center in one: [T, K]."""
    left, top, right, bottom = parts.T[:, :, None].astype(np.float64)  # [T, 1] each
    x1, y1, x2, y2 = corners.T  # [K] each
    widths, heights = np.minimum(right, x2) - np.maximum(left, x1), np.minimum(bottom, y2) - np.maximum(top, y1)
    intersections = widths.clip(0) * heights.clip(0)
    unions = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - intersections
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return intersections / unions, (left < x) & (x < right) & (top < y) & (y < bottom)


def _render(image: Image.Image, window: Window, size: int, colors: Colors) -> Floats:
    """Return the window, in which the mean color surrounds the changed picture, resized to float32 [3, size, size]."""
    rows, row_numbers = _picked(axis(window.height, size), window.top, image.height)
    columns, column_numbers = _picked(axis(window.width, size), window.left, image.width)
    height, width = len(row_numbers), len(column_numbers)
    planes = np.empty((3, height + 1, width + 1), np.float32)  # a row and a column of the mean color behind the picture
    planes[:] = np.array(MEAN_COLOR, np.float32)[:, None, None]
    if height and width:
        first, last = int(column_numbers[0]), int(column_numbers[-1]) + 1
        picked = pick_rows(image, row_numbers, first, last)[:, column_numbers - first]  # [height, width, 3]
        planes[:, :height, :width] = colors.change(picked.transpose(2, 0, 1).astype(np.float32, order="C"))
    return interpolate(planes, rows, columns)


def _picked(positions: Axis, offset: int, size: int) -> tuple[Axis, npt.NDArray[np.intp]]:
    """Return the axis with places in those of the picture's rows that it needs, and the numbers of these rows.

    The place behind the last is that of all rows outside the picture.
    """
    numbers = np.stack([positions.first, positions.second]) + offset
    inside = (numbers >= 0) & (numbers < size)
    needed, places_inside = np.unique(numbers[inside], return_inverse=True)
    places = np.full(numbers.shape, len(needed))
    places[inside] = places_inside
    return positions._replace(first=places[0], second=places[1]), needed


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(map(_is_number, values))
