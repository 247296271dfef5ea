"""What is in these images: the top classes of each, through the same decoder and preprocessing as the evaluation."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mobilenext.data import find_images
from mobilenext.errors import UsageError
from mobilenext.evaluation.metrics import ranked, softmax
from mobilenext.evaluation.pipeline import pixels_of
from mobilenext.runtime import open_runtime, prepare, resolve_device
from mobilenext.weights.checkpoint import read_weights
from mobilenext.weights.pretrained import locate

log = logging.getLogger(__name__)


def predict(
    images: Iterable[str | os.PathLike[str]],
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    topk: int = 5,
    preprocessing: Mapping[str, Any] | None = None,
    identity_divisor: int | None = None,
    use: str | None = None,
    threads: int = 1,
    device: str = "auto",
    runtime: str = "auto",
    engine: str = "auto",
) -> list[dict[str, Any]]:
    """The `topk` classes of every image.

    Args:
        images: files, and folders that are searched through.
        topk: classes for each image, at most as many as there are.
        model, weights, preprocessing, identity_divisor, use, device, runtime, engine: as in ``evaluate``.

    Returns:
        For each image in order: ``path``, ``classes`` (ids), ``scores`` (softmax) and, where known, ``labels``.
        The EXIF orientation of a photo is applied, which the evaluation does not do.

    Raises:
        ImageError: a file that is not an image. DataError: a folder without images. UsageError: topk below one.
    """
    if topk < 1:
        raise UsageError(f"topk is {topk}; expected a whole number from 1 up")
    if threads < 1:
        raise UsageError(f"threads is {threads}; expected a whole number from 1 up")
    paths = find_images(images)
    name = model.partition(".")[0] if model else None
    loaded = read_weights(
        locate(model, weights), model=name, use=use, identity_divisor=identity_divisor, preprocessing=preprocessing
    )
    rows = []
    with tempfile.TemporaryDirectory(prefix="mobilenext-") as folder:
        spec, notes = prepare(
            loaded, Path(folder), runtime=runtime, engine=engine, device=resolve_device(device), threads=threads
        )
        for note in (*loaded.notes, *notes):
            log.info("%s", note)
        network = open_runtime(spec)
        for path in paths:
            pixels = pixels_of(path, loaded.preprocessing, apply_orientation=True)
            image = loaded.preprocessing.normalize(pixels)
            logits = network.predict(image[None])  # [1, classes]
            classes = [int(number) for number in ranked(logits, topk)[0]]
            scores = softmax(logits)[0]
            row: dict[str, Any] = {"path": str(path), "classes": classes}
            row["scores"] = [round(float(scores[number]), 6) for number in classes]
            if loaded.labels:
                row["labels"] = [loaded.labels[number] for number in classes]
            rows.append(row)
    return rows
