"""What is in these images: the top classes of each, through the same decoder and preprocessing as the evaluation."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.data import find_images, pixels_of
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.errors import ImageError, UsageError
from mobilenext.evaluation.metrics import ranked, softmax
from mobilenext.evaluation.subject import Choice, find_subject, prepare
from mobilenext.runtime import open_runtime, resolve_device

log = logging.getLogger(__name__)


@dataclass
class StageTimes:
    """Seconds that a prediction spent before, in and after the network, without opening it."""

    preprocess: float = 0.0  # reading, resizing and normalising
    inference: float = 0.0
    postprocess: float = 0.0
    images: int = 0


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
    batch_size: int = 1,
    threads: int = 1,
    device: str = "auto",
    runtime: str = "auto",
    engine: str = "auto",
    precision: str | None = None,
    times: StageTimes | None = None,
) -> list[dict[str, Any]]:
    """The `topk` classes of every image.

    Args:
        images: files, and folders that are searched through.
        topk: classes for each image, at most as many as there are.
        model, weights, exported, onnx, preprocessing, identity_divisor, use, device, runtime, engine, precision: as
            in ``evaluate``.
        batch_size: images a call of the network; the last call may have fewer.
        threads: of the network.
        times: what the stages took is added to it.

    Returns:
        For each image in order: ``path``, ``classes`` (ids), ``scores`` (softmax) and, where known, ``labels``; for a
        file that cannot be read, ``path`` and ``error``.
        The EXIF orientation of a photo is applied, which the evaluation does not do.

    Raises:
        DataError: a folder without images. UsageError: topk, batch_size or threads below one.
    """
    for name, value in (("topk", topk), ("batch_size", batch_size), ("threads", threads)):
        if value < 1:
            raise UsageError(f"{name} is {value}; expected a whole number from 1 up")
    paths = find_images(images)
    subject = find_subject(
        model=model, weights=weights, exported=exported, onnx=onnx, use=use, identity_divisor=identity_divisor,
        preprocessing=preprocessing,
    )  # fmt: skip
    choice = Choice(runtime, engine, resolve_device(device), threads, precision)
    times = StageTimes() if times is None else times
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mobilenext-") as folder:
        prepared = prepare(subject, Path(folder), choice)
        for note in prepared.notes:
            log.info("%s", note)
        applied, labels = prepared.record.preprocessing, prepared.record.labels
        network = open_runtime(prepared.spec)
        for start in range(0, len(paths), batch_size):
            began = time.perf_counter()
            images_read = [(path, _pixels(path, applied)) for path in paths[start : start + batch_size]]
            readable = [pixels for _, pixels in images_read if not isinstance(pixels, str)]
            batch = applied.normalize(np.stack(readable)) if readable else None  # [N, 3, S, S]
            read = time.perf_counter()
            logits = network.predict(batch) if batch is not None else np.empty((0, 0), np.float32)  # [N, classes]
            predicted = time.perf_counter()
            answers = iter(zip(ranked(logits, topk), softmax(logits), strict=True) if readable else ())
            for path, pixels in images_read:
                if isinstance(pixels, str):
                    rows.append({"path": str(path), "error": pixels})
                    continue
                best, scores = next(answers)
                row: dict[str, Any] = {"path": str(path), "classes": [int(number) for number in best]}
                row["scores"] = [round(float(scores[number]), 6) for number in best]
                if labels:
                    row["labels"] = [labels[number] for number in best]
                rows.append(row)
            times.preprocess += read - began
            times.inference += predicted - read
            times.postprocess += time.perf_counter() - predicted
            times.images += len(readable)
    return rows


def _pixels(path: Path, preprocessing: Preprocessing) -> Pixels | str:
    """uint8 [S, S, 3], upright, or what is wrong with the file."""
    try:
        return pixels_of(path, preprocessing, apply_orientation=True)
    except ImageError as error:
        return str(error)
