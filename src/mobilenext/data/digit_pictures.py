"""Pictures with boxes that need no download: scikit-learn's digits, enlarged, on noise.

ROOT/train/picture_0000.png, ROOT/train/picture_0000.xml      Pascal VOC's annotations beside the pictures
ROOT/val/...
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mobilenext.data.boxes import Box
from mobilenext.data.digits import PARTS, write_digits

PICTURES = {"train": 96, "val": 24}
CLASSES = tuple(f"digit_{number}" for number in range(10))
_SIDE = 160  # of a picture, in pixels
_CELLS = 2  # in a row and in a column, each with a digit or none
_FULL = 0.75  # share of the cells with a digit
_SMALLEST, _LARGEST = 32, 72  # sides of a digit


def write_digit_pictures(folder: Path, part: str) -> Path:
    """Write the pictures of a part, always the same, into a folder of its name, and return `folder`.

    Raises:
        MissingDependency: scikit-learn is not installed. OSError: the folder cannot be written.
    """
    target = folder / part
    target.mkdir(parents=True)
    random = np.random.default_rng(list(PARTS).index(part))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        digits = write_digits(Path(scratch), part)
        lines = (digits / f"{part}_list.txt").read_text().splitlines()
        for number in range(PICTURES[part]):
            picture, boxes = _picture(digits / "imgs", lines, random)
            name = f"picture_{number:04}"
            picture.save(target / f"{name}.png")
            names = [CLASSES[box.label - 1] for box in boxes]
            (target / f"{name}.xml").write_text(voc_text(f"{name}.png", picture.size, boxes, names))
    return folder


def _picture(images: Path, lines: list[str], random: np.random.Generator) -> tuple[Image.Image, list[Box]]:
    # Noise: in a plain area many priors would have the same score but for rounding.
    picture = Image.fromarray(random.integers(0, 90, (_SIDE, _SIDE, 3), np.uint8))
    cell, boxes = _SIDE // _CELLS, list[Box]()
    full = random.random(_CELLS**2) < _FULL
    full[random.integers(len(full))] = True
    for place in np.flatnonzero(full):
        name, label = lines[random.integers(len(lines))].split()
        side = int(random.integers(_SMALLEST, _LARGEST + 1))
        x, y = (int(random.integers(cell - side + 1)) + cell * int(at) for at in divmod(place, _CELLS))
        with Image.open(images / name) as digit:
            picture.paste(digit.convert("RGB").resize((side, side), Image.Resampling.BILINEAR), (x, y))
        boxes.append(Box((x, y, x + side, y + side), int(label) + 1))
    return picture, boxes


def voc_text(filename: str, size: tuple[int, int], boxes: list[Box], names: list[str]) -> str:
    """Return the annotation file of a picture; corners count from 1 there."""
    objects = "".join(
        f"<object><name>{_escaped(name)}</name><difficult>{int(box.difficult)}</difficult><bndbox>"
        + "".join(
            f"<{corner}>{value + 1:g}</{corner}>"
            for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box.corners, strict=True)
        )
        + "</bndbox></object>\n"
        for box, name in zip(boxes, names, strict=True)
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{_escaped(filename)}</filename>{sides}\n{objects}</annotation>\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
