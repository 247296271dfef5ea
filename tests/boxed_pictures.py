"""A small data set of pictures with boxes, in Pascal VOC's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

OBJECT = "<object><name>{}</name>{}<bndbox>{}</bndbox></object>"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_pictures(root: Path, parts: dict[str, int]) -> Path:
    """Write pictures of 96 x 80 pixels with a red disc and a blue square; every fourth of a part is empty."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for part, pictures in parts.items():
        names = [f"{part}{number}" for number in range(pictures)]
        (root / f"ImageSets/Main/{part}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            random = np.random.default_rng([number, pictures])
            picture = Image.fromarray(random.integers(90, 160, (80, 96, 3), dtype=np.uint8))
            draw, objects = ImageDraw.Draw(picture), ""
            for kind, color in (("disc", "red"), ("square", "blue")) if number % 4 != 3 else ():
                left, top, side = (int(random.integers(*limits)) for limits in ((0, 50), (0, 36), (20, 44)))
                corners = (left, top, left + side, top + side)
                (draw.ellipse if kind == "disc" else draw.rectangle)(corners, fill=color)
                box = "".join(f"<{tag}>{value + 1}</{tag}>" for tag, value in zip(SIDES, corners, strict=True))
                objects += OBJECT.format(kind, "", box)
            picture.save(root / f"JPEGImages/{name}.jpg", quality=90)
            size = "<size><width>96</width><height>80</height><depth>3</depth></size>"
            (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return root
