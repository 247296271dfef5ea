"""Explain what in images speaks for a class: a page and a row for each image.

Through Paddle's eager network, the only runtime here that has gradients, and the decoder and preprocessing of
``predict``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.data import find_images, read_image
from mobilenext.drawing.picture import SUFFIXES
from mobilenext.errors import ImageError, UsageError, refuse_unknown
from mobilenext.explanation.gradcam import Explainer, Explanation, crop_box, on_image
from mobilenext.explanation.page import Box, class_text, write_page
from mobilenext.files import names_apart, refuse_overwriting
from mobilenext.machine.packages import require
from mobilenext.sources.options import WeightsSource, take_options
from mobilenext.statistics import percent_text

if TYPE_CHECKING:
    from typing import Unpack

    from PIL.Image import Image

    from mobilenext.weights.record import Weights

SHOWN = 384  # pixels, to which the longer side of smaller images is enlarged
log = logging.getLogger(__name__)


def explain(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    class_id: int | None = None,
    block: int | str | None = None,
    topk: int = 5,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[WeightsSource],
) -> list[dict[str, Any]]:
    """Draw a heat map of the parts of each image that support a class.

    Args:
        images: files, and folders that are searched through, or one of them.
        output: a .png or .svg for one image; else a folder, where each page is called like its image, with a number
            where that name is taken.
        class_id: None explains the class that the network puts first.
        block: by position or name; ``last``; None is the last with a map of 7 x 7 or more.
        topk: classes shown, at most as many as there are.
        progress: called with the number of images that are done, and of all.
        options: model, weights, use, section, identity_divisor, preprocessing, as in ``predict``.

    Returns:
        For each image in order: ``path``, ``output``, ``block``, ``class``, ``score``, ``classes``, ``scores``,
        ``crop`` (left, top, right, bottom in pixels of the upright image), ``map`` (Grad-CAM at the block's resolution,
        rows of numbers from 0 to 1), ``peak`` and, where known, ``labels``; for a file that cannot be read, ``path``
        and ``error``.

    Raises:
        UsageError: no such class or block, topk below one, or a picture's name for several images.
        MissingDependency: vl-convert is not installed. TypeError: another keyword.
    """
    rest: dict[str, Any] = dict(options)
    source = take_options(WeightsSource, rest)
    refuse_unknown(rest, (), "explain")
    if topk < 1:
        raise UsageError(f"topk is {topk}; expected a whole number from 1 up")
    paths = find_images(images)
    pages = _pages(paths, Path(output))
    require(["vl_convert"], "explain", "the picture of an explanation")
    weights, labels = _open(source)
    explainer = _explainer(weights, block)
    explainer.check_class(class_id)
    rows: list[dict[str, Any]] = []
    for path, page in zip(paths, pages, strict=True):
        if progress:
            progress(len(rows), len(paths))
        try:
            image = read_image(path, apply_orientation=True)
            pixels = weights.preprocessing.pixels(image)  # [S, S, 3]
        except ImageError as error:
            rows.append({"path": str(path), "error": _message(error, path)})
            continue
        explanation = explainer.explain(pixels, class_id, topk=topk)
        if explanation.peak == 0:
            log.warning("%s: nothing in the map of %s speaks for this class", path, explanation.block)
        box = crop_box(weights.preprocessing, image.size)
        _draw(page, image, explanation, weights, box, labels, name=path.name)
        rows.append(_row(path, page, explanation, box, labels))
    return rows


def _message(error: ImageError, path: Path) -> str:
    """Return what is wrong with a file, with its path."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _open(source: WeightsSource) -> tuple[Weights, Sequence[str] | None]:
    """Return the weights and the names of their classes."""
    from mobilenext.models import split_tag
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights
    from mobilenext.weights.record import names_of_classes, note_on_assumed_names

    rest: dict[str, Any] = dict(source)
    model, file = rest.pop("model", None), rest.pop("weights", None)
    weights = read_weights(locate(model, file), model=split_tag(model)[0] if model else None, **rest)
    for note in weights.notes:
        log.info("%s", note)
    labels, assumed = names_of_classes(weights)
    if assumed:
        log.info("%s", note_on_assumed_names(weights))
    return weights, labels


def _explainer(weights: Weights, block: int | str | None) -> Explainer:
    from mobilenext.weights.load import network_of

    return Explainer(network_of(weights), weights.preprocessing, block)


def _draw(
    page: Path,
    image: Image,
    explanation: Explanation,
    weights: Weights,
    box: Box,
    labels: Sequence[str] | None,
    name: str,
) -> None:
    """Write the page of one image, under its name, its class and the share of that class."""
    share = f"{class_text(explanation.class_id, labels)}, {percent_text(100 * explanation.score)}"
    zoom = max(1, SHOWN // max(image.size))  # small images have too few pixels to show a heat map on
    heat = on_image(explanation.map, weights.preprocessing, image.size, zoom)  # [H, W]
    pixels = np.asarray(image).repeat(zoom, axis=0).repeat(zoom, axis=1)  # [H, W, 3]
    left, top, right, bottom = box
    frame = (zoom * left, zoom * top, zoom * right, zoom * bottom)
    write_page(page, pixels, heat, explanation, box=frame, labels=labels, title=f"{name}: {share} ({weights.model})")


def _row(path: Path, page: Path, explanation: Explanation, box: Box, labels: Sequence[str] | None) -> dict[str, Any]:
    """Return the result row of one image."""
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
    return row


def _pages(paths: list[Path], output: Path) -> list[Path]:
    """Return the path of the picture for each image."""
    if output.suffix in SUFFIXES and not output.is_dir():
        if len(paths) > 1:
            raise UsageError(f"{len(paths)} images and one picture {output}; expected a folder")
        refuse_overwriting([output], paths)
        return [output]
    if output.suffix.lower() in (".jpg", ".jpeg", ".pdf", ".gif", ".webp", ".bmp"):
        raise UsageError(f"output is {output}; expected {' or '.join(SUFFIXES)}, or a folder")
    pages = [output / name for name in names_apart([f"{path.stem}.png" for path in paths])]
    refuse_overwriting(pages, paths)
    return pages
