"""What is in these images: the top classes of each, through the same decoder and preprocessing as the evaluation."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mobilenext.data import find_images, pixels_of
from mobilenext.errors import ImageError, UsageError
from mobilenext.evaluation.metrics import ranked, softmax
from mobilenext.evaluation.subject import Choice, find_subject, prepare
from mobilenext.runtime import open_runtime, resolve_device

log = logging.getLogger(__name__)


def predict(
    images: Iterable[str | os.PathLike[str]],
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    exported: str | os.PathLike[str] | None = None,
    onnx: str | os.PathLike[str] | None = None,
    topk: int = 5,
    preprocessing: Mapping[str, Any] | None = None,
    identity_divisor: int | None = None,
    use: str | None = None,
    threads: int = 1,
    device: str = "auto",
    runtime: str = "auto",
    engine: str = "auto",
    precision: str | None = None,
) -> list[dict[str, Any]]:
    """The `topk` classes of every image.

    Args:
        images: files, and folders that are searched through.
        topk: classes for each image, at most as many as there are.
        model, weights, exported, onnx, preprocessing, identity_divisor, use, device, runtime, engine, precision: as
            in ``evaluate``.

    Returns:
        For each image in order: ``path``, ``classes`` (ids), ``scores`` (softmax) and, where known, ``labels``; for a
        file that cannot be read, ``path`` and ``error``.
        The EXIF orientation of a photo is applied, which the evaluation does not do.

    Raises:
        DataError: a folder without images. UsageError: topk below one.
    """
    if topk < 1:
        raise UsageError(f"topk is {topk}; expected a whole number from 1 up")
    if threads < 1:
        raise UsageError(f"threads is {threads}; expected a whole number from 1 up")
    paths = find_images(images)
    subject = find_subject(
        model=model, weights=weights, exported=exported, onnx=onnx, use=use, identity_divisor=identity_divisor,
        preprocessing=preprocessing,
    )  # fmt: skip
    choice = Choice(runtime, engine, resolve_device(device), threads, precision)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mobilenext-") as folder:
        prepared = prepare(subject, Path(folder), choice)
        for note in prepared.notes:
            log.info("%s", note)
        network = open_runtime(prepared.spec)
        for path in paths:
            try:
                pixels = pixels_of(path, prepared.record.preprocessing, apply_orientation=True)
            except ImageError as error:
                rows.append({"path": str(path), "error": str(error)})
                continue
            logits = network.predict(prepared.record.preprocessing.normalize(pixels)[None])  # [1, classes]
            classes = [int(number) for number in ranked(logits, topk)[0]]
            scores = softmax(logits)[0]
            row: dict[str, Any] = {"path": str(path), "classes": classes}
            row["scores"] = [round(float(scores[number]), 6) for number in classes]
            if labels := prepared.record.labels:
                row["labels"] = [labels[number] for number in classes]
            rows.append(row)
    return rows
