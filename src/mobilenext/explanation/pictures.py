"""Why these images are what the network takes them for: a page and a row for each.

Through Paddle's eager network, the only runtime here that has gradients, and the decoder and preprocessing of
``predict``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.data import find_images, read_image
from mobilenext.errors import ImageError, UsageError
from mobilenext.explanation.gradcam import Explainer, crop_box, on_image
from mobilenext.explanation.overlay import SUFFIXES, write_page
from mobilenext.machine.packages import require

SHOWN = 384  # pixels, to which the longer side of smaller images is enlarged
log = logging.getLogger(__name__)


def explain(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    class_id: int | None = None,
    block: int | str | None = None,
    topk: int = 5,
) -> list[dict[str, Any]]:
    """Write what speaks for a class in each image.

    Args:
        images: files, and folders that are searched through, or one of them.
        output: a .png or .svg for one image; else a folder, where each page is called like its image, with a number
            where that name is taken.
        model, weights, use, section, identity_divisor, preprocessing: as in ``predict``.
        class_id: None explains the class that the network puts first.
        block: by position or name; ``last``; None is the last with a map of 7 x 7 or more.
        topk: classes shown, at most as many as there are.

    Returns:
        For each image in order: ``path``, ``output``, ``block``, ``class``, ``score``, ``classes``, ``scores``,
        ``crop`` (left, top, right, bottom in pixels of the upright image), ``map`` (Grad-CAM at the block's resolution,
        rows of numbers from 0 to 1), ``peak`` and, where known, ``labels``; for a file that cannot be read, ``path``
        and ``error``.

    Raises:
        UsageError: no such class or block, topk below one, or a picture's name for several images.
        MissingDependency: matplotlib is not installed.
    """
    if topk < 1:
        raise UsageError(f"topk is {topk}; expected a whole number from 1 up")
    paths = find_images(images)
    pages = _pages(paths, Path(output))
    require(["matplotlib"], "explain", "the picture of an explanation")

    from mobilenext.weights.load import network_of
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights
    from mobilenext.weights.record import IMAGENET_ASSUMED, names_of_classes

    name = model.partition(".")[0] if model else None
    read = read_weights(
        locate(model, weights),
        model=name,
        use=use,
        section=section,
        identity_divisor=identity_divisor,
        preprocessing=preprocessing,
    )
    for note in read.notes:
        log.info("%s", note)
    labels, assumed = names_of_classes(read)
    if assumed:
        log.info("%s", IMAGENET_ASSUMED)
    explainer = Explainer(network_of(read), read.preprocessing, block)
    explainer.check_class(class_id)
    rows: list[dict[str, Any]] = []
    for path, page in zip(paths, pages, strict=True):
        try:
            image = read_image(path, apply_orientation=True)
            pixels = read.preprocessing.pixels(image)  # [S, S, 3]
        except ImageError as error:
            message = str(error)
            rows.append({"path": str(path), "error": message if str(path) in message else f"{path}: {message}"})
            continue
        explanation = explainer.explain(pixels, class_id, topk=topk)
        box = crop_box(read.preprocessing, image.size)
        zoom = max(1, SHOWN // max(image.size))  # small images have too few pixels to show a heat map on
        heat = on_image(explanation.map, read.preprocessing, image.size, zoom)  # [H, W]
        if explanation.peak == 0:
            log.warning("%s: nothing in the map of %s speaks for this class", path, explanation.block)
        whole = np.asarray(image).repeat(zoom, axis=0).repeat(zoom, axis=1)  # [H, W, 3]
        frame = (zoom * box[0], zoom * box[1], zoom * box[2], zoom * box[3])
        title = f"{path.name}, {read.model}"
        write_page(page, whole, heat, explanation, box=frame, labels=labels, title=title)
        row: dict[str, Any] = {
            "path": str(path),
            "output": str(page),
            "block": explanation.block,
            "class": explanation.class_id,
            "score": round(explanation.score, 6),
            "classes": list(explanation.classes),
            "scores": [round(score, 6) for score in explanation.scores],
            "crop": [round(edge, 2) for edge in box],
            "map": [[round(float(value), 4) for value in line] for line in explanation.map],
            "peak": explanation.peak,
        }
        if labels:
            row["labels"] = [labels[number] for number in explanation.classes]
        rows.append(row)
    return rows


def _pages(paths: list[Path], output: Path) -> list[Path]:
    """The picture for each image."""
    if output.suffix in SUFFIXES and not output.is_dir():
        if len(paths) > 1:
            raise UsageError(f"{len(paths)} images and one picture {output}; expected a folder")
        return [output]
    if output.suffix.lower() in (".jpg", ".jpeg", ".pdf", ".gif", ".webp", ".bmp"):
        raise UsageError(f"output is {output}; expected {' or '.join(SUFFIXES)}, or a folder")
    pages: list[Path] = []
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        while name.casefold() in taken:  # some file systems do not tell a.png from A.png
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.casefold())
        pages.append(output / f"{name}.png")
    return pages
