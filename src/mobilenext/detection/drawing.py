"""Boxes on pictures: the one place that paints them, for predictions, samples of the augmentation and the report.

The colors are those of M. Okabe and K. Ito (2008), which color-blind readers can tell apart. What is drawn in a color
has a rim in black or white, so it is seen on every background. Texts use the font that Pillow ships.
"""

from __future__ import annotations

import bisect
import functools
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

COLORS = ("#0072b2", "#d55e00", "#f0e442", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SMALLEST_TEXT = 11  # pixels; smaller letters cannot be read
WIDEST_TEXT = 0.5  # of the picture, where a box is narrower than that
_MISSING_GLYPH = "\U0010ffff"  # a character that no font has

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle: TypeAlias = tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels, the last column and row inside


@dataclass(frozen=True)
class Style:
    """How a box looks."""

    color: str  # as Pillow reads it, such as #0072b2
    dashed: bool = False


# What was drawn by people is dashed, what a network answered is solid.
TRUTH, MISSED = Style("#ffffff", dashed=True), Style("#f0e442", dashed=True)
FOUND, FALSE = Style("#56b4e9"), Style("#d55e00")


def class_style(label: int) -> Style:
    """Return the color of a class from 1; classes beyond the number of colors are dashed in turn."""
    turn, place = divmod(max(0, label - 1), len(COLORS))
    return Style(COLORS[place], dashed=turn % 2 == 1)


def draw_boxes(
    image: Image.Image,
    boxes: npt.ArrayLike,
    names: Sequence[str] = (),
    *,
    labels: Sequence[int] = (),
    scores: Sequence[float] = (),
    styles: Sequence[Style] = (),
) -> Image.Image:
    """Return a copy of a picture, of mode RGB, with boxes and what they show.

    Lines and letters grow with the picture. A name that is longer than its place is cut, the score behind it never. A
    name loses the accents that the font lacks; where it has other such letters, as Chinese names have, the number of
    its class stands for it. Where texts would lie on each other they move around their boxes, and one without a
    free place is left out. The first box is painted last, on top of the others.

    Args:
        image: of any mode and size.
        boxes: [K, 4] x1 y1 x2 y2 in its pixels; what is outside of it is drawn at its edge.
        names: [K] of the classes, or other texts; empty: no texts.
        labels: [K] classes from 1, which decide the colors; empty: all are the first.
        scores: [K] 0 to 1, written behind the names.
        styles: [K] in place of the colors of the classes.

    Raises:
        ValueError: the numbers of boxes, names, labels, scores or styles differ.
    """
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    for values in (names, labels, scores, styles):
        if len(values) not in (0, len(corners)):
            raise ValueError(f"{len(corners)} boxes and {len(values)} of their texts, labels, scores or styles")
    looks = list(styles) or [class_style(int(label)) for label in labels] or [class_style(1)] * len(corners)
    rectangles = [_rectangle(box, picture.size) for box in corners]
    draw, line = ImageDraw.Draw(picture), max(1, round(math.sqrt(picture.width * picture.height) / 220))
    for rectangle, style in reversed(list(zip(rectangles, looks, strict=True))):
        _draw_rectangle(draw, rectangle, style, line)
    if len(names) or len(scores):
        font = _font(max(SMALLEST_TEXT, round(math.sqrt(picture.width * picture.height) / 38)))
        texts = _texts(names, labels, scores, rectangles, picture.width, font)
        places = _places(texts, rectangles, picture.size, font)
        for text, place, style in zip(texts, places, looks, strict=True):
            if place is not None:
                _draw_text(draw, text, place, style, font)
    return picture


def _rectangle(box: npt.NDArray[np.float64], size: tuple[int, int]) -> Rectangle:
    """Return the pixels at the edge of a box, inside the picture."""
    width, height = size
    x1, y1, x2, y2 = np.nan_to_num(box).clip(0, (width, height, width, height)).tolist()
    left, top = min(math.floor(x1), width - 1), min(math.floor(y1), height - 1)
    return left, top, max(left, math.ceil(x2) - 1), max(top, math.ceil(y2) - 1)


def _rim(color: str) -> str:
    """Return black or white, whichever stands out from a color."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else "#ffffff"


def _draw_rectangle(draw: ImageDraw.ImageDraw, rectangle: Rectangle, style: Style, line: int) -> None:
    """Draw a box: its rim outside and inside, and its color between them, whole or in dashes."""
    rim = max(1, line // 3)
    x1, y1, x2, y2 = rectangle
    outer = (x1 - rim, y1 - rim, x2 + rim, y2 + rim)
    for stroke in _sides(outer, line + 2 * rim):
        draw.rectangle(stroke, fill=_rim(style.color))
    for side in _sides(rectangle, line):
        for stroke in _dashes(side, 4 * line + 2) if style.dashed else (side,):
            draw.rectangle(stroke, fill=style.color)


def _sides(rectangle: Rectangle, line: int) -> list[Rectangle]:
    """Return the four sides of a box as filled rectangles, `line` pixels wide and at most as wide as the box."""
    x1, y1, x2, y2 = rectangle
    across, down = min(line, x2 - x1 + 1) - 1, min(line, y2 - y1 + 1) - 1
    return [(x1, y1, x2, y1 + down), (x1, y2 - down, x2, y2), (x1, y1, x1 + across, y2), (x2 - across, y1, x2, y2)]


def _dashes(side: Rectangle, length: int) -> Iterator[Rectangle]:
    """Yield the dashes of one side; the space between them is as long as they are."""
    x1, y1, x2, y2 = side
    if x2 - x1 >= y2 - y1:
        for start in range(x1, x2 + 1, 2 * length):
            yield start, y1, min(x2, start + length - 1), y2
    else:
        for start in range(y1, y2 + 1, 2 * length):
            yield x1, start, x2, min(y2, start + length - 1)


@functools.lru_cache(maxsize=32)
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _texts(
    names: Sequence[str],
    labels: Sequence[int],
    scores: Sequence[float],
    rectangles: Sequence[Rectangle],
    width: int,
    font: Font,
) -> list[str]:
    """Return the text of each box: its name, cut to its place, and its score."""
    texts = []
    for place, (x1, _, x2, _) in enumerate(rectangles):
        name = " ".join(names[place].split()) if len(names) else ""
        if not _drawable(name, font):
            name = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
        if not _drawable(name, font):
            name = f"class {labels[place]}" if len(labels) else "".join(c if _drawable(c, font) else "?" for c in name)
        score = f"{scores[place]:.2f}" if len(scores) else ""
        widest = min(width, max(x2 - x1 + 1, WIDEST_TEXT * width))
        texts.append(_cut(name, score, widest - 2 * _margin(font), font))
    return texts


def _drawable(text: str, font: Font) -> bool:
    """Return whether the font has all characters of a text."""
    return all(_has_glyph(character, font) for character in set(text))


@functools.lru_cache(maxsize=4096)
def _has_glyph(character: str, font: Font) -> bool:
    return character == " " or bytes(font.getmask(character)) != bytes(font.getmask(_MISSING_GLYPH))


def _cut(name: str, score: str, width: float, font: Font) -> str:
    """Return name and score, the name cut until both fit into `width` pixels; at least the score is left."""
    whole = f"{name} {score}".strip()
    if font.getlength(whole) <= width:
        return whole
    longest = bisect.bisect_right(range(len(name)), width, key=lambda end: font.getlength(_ended(name, end, score)))
    return _ended(name, longest - 1, score)


def _ended(name: str, end: int, score: str) -> str:
    """Return the first `end` characters of a name, a sign that it goes on, and its score."""
    return f"{name[:end].rstrip()}… {score}".strip() if end > 0 else score


def _margin(font: Font) -> int:
    return max(1, round(_height(font) / 6))


@functools.lru_cache(maxsize=32)
def _height(font: Font) -> int:
    """Return the height of a line, from the highest letter to the deepest."""
    _, top, _, bottom = font.getbbox("ÅÉjgpqy|")
    return math.ceil(bottom - top)


def _places(
    texts: Sequence[str], rectangles: Sequence[Rectangle], size: tuple[int, int], font: Font
) -> list[Rectangle | None]:
    """Return the rectangle of each text: above its box if that is free, or elsewhere at it; None without a free one."""
    taken, count = np.empty((len(texts), 4), np.int64), 0
    places: list[Rectangle | None] = []
    for text, (x1, y1, x2, y2) in zip(texts, rectangles, strict=True):
        width = math.ceil(font.getlength(text)) + 2 * _margin(font)
        height = _height(font) + 2 * _margin(font)
        lefts = (x1, x2 - width + 1)
        tops = (y1 - height, y1, y2 + 1, y2 - height + 1)  # above, inside, below, inside at the bottom
        corners = [(left, top) for left in lefts for top in tops]
        choices = [_inside(corner, (width, height), size) for corner in corners]
        place = next((place for place in choices if not _overlaps(place, taken[:count])), None) if text else None
        if place is not None:
            taken[count], count = place, count + 1
        places.append(place)
    return places


def _inside(corner: tuple[int, int], text: tuple[int, int], size: tuple[int, int]) -> Rectangle:
    left, top = (max(0, min(at, whole - part)) for at, part, whole in zip(corner, text, size, strict=True))
    return left, top, left + text[0] - 1, top + text[1] - 1


def _overlaps(place: Rectangle, taken: npt.NDArray[np.int64]) -> bool:
    x1, y1, x2, y2 = place
    apart = (taken[:, 0] > x2) | (taken[:, 2] < x1) | (taken[:, 1] > y2) | (taken[:, 3] < y1)
    return bool((~apart).any())


def _draw_text(draw: ImageDraw.ImageDraw, text: str, place: Rectangle, style: Style, font: Font) -> None:
    x1, y1, _, _ = place
    _, top, _, _ = font.getbbox("ÅÉjgpqy|")
    draw.rectangle(place, fill=style.color)
    draw.text((x1 + _margin(font), y1 + _margin(font) - top), text, fill=_rim(style.color), font=font)
