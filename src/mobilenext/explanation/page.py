"""The page of an explanation: the image, the heat on it with the scale of its colors, and the best classes as bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenext.data.preprocessing import Pixels
from mobilenext.drawing.cells import shortened
from mobilenext.drawing.picture import side_by_side, write_picture
from mobilenext.explanation.gradcam import Explanation, Heat
from mobilenext.explanation.overlay import dimmed, overlay
from mobilenext.statistics import percent_text

SIDE = 500  # pixels of the longer side of a picture
BARS = 420  # pixels, across
SCALE = 16  # and those of the scale of colors
EXPLAINED, OTHER = "#b5367a", "#8a8a8a"  # the middle of magma's colors, and gray
LONGEST_NAME = 40  # characters: what a panel is wide enough for
Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels of the image


def write_page(
    path: Path,
    pixels: Pixels,
    heat: Heat,
    explanation: Explanation,
    *,
    box: Box,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """Write the image with the crop marked, the heat on it, its scale and the best classes as bars; as .png or .svg.

    Args:
        path: of the picture.
        pixels: the whole image, uint8 [H, W, 3].
        heat: on all of it, float32 [H, W].
        explanation: of the class.
        box: the crop.
        labels: a name for each class.
        title: above the page.

    Raises:
        MissingDependency: vl-convert is not installed.
        UsageError: another kind of picture.
        OutputError: it cannot be written.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    is_cropped = (right - left) * (bottom - top) < 0.995 * width * height
    rows, columns = explanation.map.shape
    side = panel_size(pixels)[1]
    panels = [
        _image(pixels, "image; the network sees what is inside the frame" if is_cropped else "image", " "),
        _image(
            dimmed(overlay(pixels, heat), box),
            f"what speaks for {class_text(explanation.class_id, labels)}",
            f"Grad-CAM of {explanation.block}, a map of {rows} x {columns}",
        ),
        _scale(side),
        _bars(explanation, labels, side),
    ]
    if is_cropped:
        panels[0]["layer"] += _frame(box, pixels)
    write_picture(
        side_by_side(panels, len(panels), title), path, extra="explain", purpose="the picture of an explanation"
    )


def panel_size(pixels: Pixels) -> tuple[int, int]:
    """Return width and height at which an image is shown."""
    height, width = pixels.shape[:2]
    return max(1, round(SIDE * width / max(height, width))), max(1, round(SIDE * height / max(height, width)))


def _image(pixels: Pixels, title: str, subtitle: str, size: tuple[int, int] | None = None) -> dict[str, Any]:
    width, height = size or panel_size(pixels)
    mark = {"type": "image", "width": width, "height": height, "aspect": False, "smooth": max(pixels.shape) > 256}
    place = {"x": {"value": width / 2}, "y": {"value": height / 2}, "url": {"field": "url"}}
    return {
        "title": {"text": title, "subtitle": subtitle},
        "width": width,
        "height": height,
        "layer": [{"data": {"values": [{"url": _data_uri(pixels)}]}, "mark": mark, "encoding": place}],
    }


def _scale(height: int) -> dict[str, Any]:
    """Draw the colors of the heat as they lie on a medium gray, from none at the foot to the most at the top."""
    heat = np.linspace(1, 0, 256, dtype=np.float32)[:, None]  # [256, 1]
    colors = overlay(np.full((256, 1, 3), 128, np.uint8), heat)
    look = {"orient": "right", "grid": False, "domain": False, "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}
    y = {"field": "heat", "type": "quantitative", "scale": {"domain": [0, 1], "nice": False}}
    strip = _image(colors, " ", " ", (SCALE, height))
    ends = {"data": {"values": [{"heat": 0}, {"heat": 1}]}, "mark": {"type": "point", "opacity": 0}}
    strip["layer"].append(
        {**ends, "encoding": {"y": {**y, "axis": {**look, "title": "share of the largest value of the map"}}}}
    )
    return strip


def _data_uri(pixels: Pixels) -> str:
    content, image = io.BytesIO(), Image.fromarray(pixels)
    image.thumbnail((2 * SIDE, 2 * SIDE))  # a large photograph has more pixels than the page shows
    image.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _frame(box: Box, pixels: Pixels) -> list[dict[str, Any]]:
    """Draw a frame in black with white dashes, which is visible on any picture."""
    scale = panel_size(pixels)[0] / pixels.shape[1]
    left, top, right, bottom = ({"value": edge * scale} for edge in box)
    encoding = {"x": left, "y": top, "x2": right, "y2": bottom}
    looks: list[dict[str, Any]] = [{"stroke": "black"}, {"stroke": "white", "strokeDash": [5, 5]}]
    return [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rect", "fill": None, "strokeWidth": 1.5, **look},
            "encoding": encoding,
        }
        for look in looks
    ]


def _bars(explanation: Explanation, labels: Sequence[str] | None, height: int) -> dict[str, Any]:
    """Draw a bar for each of the best classes and the explained one, with its name above it."""
    rows = list(zip(explanation.classes, explanation.scores, strict=True))
    if explanation.class_id not in explanation.classes:
        rows.append((explanation.class_id, explanation.score))
    values = [
        {"row": place, "percent": 100 * score, "name": class_text(number, labels), "text": percent_text(100 * score)}
        | {"color": EXPLAINED if number == explanation.class_id else OTHER}
        for place, (number, score) in enumerate(rows)
    ]
    y = {"field": "row", "type": "ordinal", "axis": None}
    x = {"field": "percent", "type": "quantitative", "scale": {"domain": [0, 118]}, "axis": None}
    size = min(28, height / len(rows) / 3)
    color = {"field": "color", "type": "nominal", "scale": None}
    text = {"type": "text", "align": "left", "color": "black"}
    return {
        "title": {"text": "scores; the explained class in color", "subtitle": " "},
        "width": BARS,
        "height": height,
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "bar", "size": size}, "encoding": {"x": x, "y": y, "color": color}},
            {
                "mark": {**text, "dx": 4, "dy": -size * 0.9, "fontSize": 14},
                "encoding": {"x": {"value": 0}, "y": y, "text": {"field": "name"}},
            },
            {"mark": {**text, "dx": 5, "fontSize": 13}, "encoding": {"x": x, "y": y, "text": {"field": "text"}}},
        ],
    }


def class_text(number: int, labels: Sequence[str] | None) -> str:
    """Return a class by its number and, where it has one, its name, cut short."""
    name = " ".join(labels[number].split()) if labels else ""
    if name in ("", str(number)):
        return f"class {number}"
    return f"{number}: {shortened(name, LONGEST_NAME)}"
