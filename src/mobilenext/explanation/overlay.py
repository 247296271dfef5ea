"""Heat maps as pictures: colours on pixels, and a page of original, overlay and best classes.

The colours are matplotlib's magma (S. van der Walt and N. Smith, CC0), which is even in lightness: twice the heat looks
twice as bright, also in grey and to the colour-blind. :func:`overlay` needs only numpy; the page needs matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.data.preprocessing import Pixels
from mobilenext.errors import UsageError
from mobilenext.explanation.gradcam import Explanation, Heat
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require

# Every 17th of magma's 256 colours; straight lines between them stay within 3 of 255 of the whole table.
_MAGMA = (
    "000004 0b0924 20114b 3b0f70 57157e 721f81 8c2981 a8327d c43c75 de4968 f1605d fa7f5e fe9f6d febf84 fddea0 fcfdbf"
)
ANCHORS = np.array([[int(colour[at : at + 2], 16) for at in (0, 2, 4)] for colour in _MAGMA.split()])  # [16, 3]
SUFFIXES = (".png", ".svg")
STRENGTH = 0.75  # share of the colour where the heat is 1, falling with its root; the rest is the picture in grey


def coloured(heat: Heat) -> Pixels:
    """Heat [H, W] from 0 to 1 to colours, uint8 [H, W, 3]."""
    at = np.linspace(0, 1, len(ANCHORS))
    channels = [np.interp(heat, at, ANCHORS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(pixels: Pixels, heat: Heat) -> Pixels:
    """The picture in grey under the colours of its heat: uint8 [H, W, 3].

    Args:
        pixels: uint8 [H, W, 3], a crop with ``Explanation.heat`` or a whole image with ``heat_map``.
        heat: [H, W] from 0 to 1.

    Raises:
        UsageError: the two are not of one size.
    """
    if pixels.shape != (*heat.shape, 3):
        raise UsageError(f"pixels {list(pixels.shape)} and heat {list(heat.shape)}; expected [H, W, 3] and [H, W]")
    grey = pixels @ np.array([0.299, 0.587, 0.114])  # [H, W]
    share = STRENGTH * np.sqrt(heat)[..., None]  # [H, W, 1]
    blend = (1 - share) * grey[..., None] + share * coloured(heat)  # [H, W, 3]
    return np.asarray(blend.round(), np.uint8)


def write_page(
    path: Path,
    pixels: Pixels,
    heat: Heat,
    explanation: Explanation,
    *,
    box: tuple[float, float, float, float],
    labels: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """The original with the crop marked, the heat on it, and the best classes as bars; as .png or .svg.

    Args:
        pixels: the whole image, uint8 [H, W, 3].
        heat: on all of it, float32 [H, W].
        box: left, top, right and bottom of the crop.
        labels: a name for each class.

    Raises:
        MissingDependency: matplotlib is not installed.
        UsageError: another kind of picture.
        OutputError: it cannot be written.
    """
    check_suffix(path)
    require(["matplotlib"], "explain", "the picture of an explanation")
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = pixels.shape[:2]
    side = 4.2  # inches, of the longer side of a picture
    shown = (side * width / max(width, height), side * height / max(width, height))
    figure = Figure(figsize=(2 * shown[0] + 4.6, shown[1] + 1.0), dpi=120, layout="constrained")
    ratios = [shown[0], shown[0], 3.6]
    original, heated, bars = figure.subplots(1, 3, gridspec_kw={"width_ratios": ratios})
    smooth = "antialiased" if max(width, height) > 256 else "nearest"
    original.imshow(pixels, interpolation=smooth)
    left, top, right, bottom = box
    if (right - left) * (bottom - top) < 0.995 * width * height:
        corner = (left - 0.5, top - 0.5)  # the centre of the first pixel is at 0
        for colour, style in (("black", "-"), ("white", "--")):  # to be seen on any picture
            frame = Rectangle(corner, right - left, bottom - top, fill=False, color=colour, linestyle=style)
            original.add_patch(frame)
        original.set_title("image; the network sees what is inside the frame", fontsize=9)
    else:
        original.set_title("image", fontsize=9)
    heated.imshow(dimmed(overlay(pixels, heat), box), interpolation=smooth)
    heated.set_title(f"what speaks for {named(explanation.class_id, labels)} (yellow: most)", fontsize=9)
    rows, columns = explanation.map.shape
    heated.set_xlabel(f"Grad-CAM of {explanation.block}, a map of {rows} x {columns}", fontsize=9)
    for axes in (original, heated):
        axes.set_xticks([])
        axes.set_yticks([])
    _draw_bars(bars, explanation, labels)
    if title:
        figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:])
    write_atomically(path, picture.getvalue())


def _draw_bars(axes: Any, explanation: Explanation, labels: Sequence[str] | None) -> None:
    """The scores of the best classes, and of the explained one where it is not among them."""
    rows = list(zip(explanation.classes, explanation.scores, strict=True))
    if explanation.class_id not in explanation.classes:
        rows.append((explanation.class_id, explanation.score))
    colours = ["#b5367a" if number == explanation.class_id else "#8a8a8a" for number, _ in rows]  # magma's middle
    places = range(len(rows))
    scores = [100 * score for _, score in rows]
    axes.barh(places, scores, color=colours, height=0.36)
    for place, (number, score) in enumerate(rows):
        axes.text(1, place - 0.24, named(number, labels), va="bottom", fontsize=10)
        axes.text(100 * score + 1, place, f"{100 * score:.1f} %", va="center", fontsize=9)
    axes.set_xlim(0, 122)
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.set_title("scores; the explained class in colour", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def named(number: int, labels: Sequence[str] | None) -> str:
    """A class by its number and, where it has one, its name, cut short."""
    name = " ".join(labels[number].split()) if labels else ""
    short = name if len(name) <= 30 else f"{name[:29]}…"
    if name in ("", str(number)):
        return f"class {number}"
    return f"{number}: {short}".replace("$", r"\$")  # matplotlib sets $...$ as formulas


def dimmed(pixels: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """`pixels` with a third of their brightness outside `box`, where the network does not look."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))  # [H, W]
    return np.where(inside[..., None], pixels, pixels // 3).astype(np.uint8)


def check_suffix(path: Path) -> None:
    """Raises UsageError for a picture that is neither .png nor .svg."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the picture is called {path.name!r}; expected a name that ends in {' or '.join(SUFFIXES)}")
