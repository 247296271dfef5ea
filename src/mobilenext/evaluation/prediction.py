"""What is in these images: the top classes of each, through the same decoder and preprocessing as the evaluation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from mobilenext.classification.metrics import ranked, softmax
from mobilenext.data import find_images
from mobilenext.data.images import as_rgb, decode_image, read_image
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.errors import ImageError, UsageError
from mobilenext.machine.temporary import scratch_folder
from mobilenext.runtime import open_runtime, resolve_device
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.options import Labels
from mobilenext.sources.prepare import prepare

log = logging.getLogger(__name__)

# A file or folder; the content of an image file; an open image; uint8 pixels [H, W, 3], [H, W] or [N, H, W, 3].
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | Pixels


@dataclass
class StageTimes:
    """Seconds that a prediction spent before, in and after the network, without opening it."""

    preprocess: float = 0.0  # reading, resizing and normalising
    inference: float = 0.0
    postprocess: float = 0.0
    images: int = 0


def predict(
    images: ImageLike | Iterable[ImageLike],
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    exported: str | os.PathLike[str] | None = None,
    onnx: str | os.PathLike[str] | None = None,
    topk: int = 5,
    preprocessing: Mapping[str, Any] | None = None,
    identity_divisor: int | None = None,
    use: str | None = None,
    section: str | None = None,
    labels: Labels | None = None,
    output_name: str | None = None,
    batch_size: int = 1,
    threads: int = 1,
    device: str = "auto",
    runtime: str = "auto",
    engine: str = "auto",
    precision: str | None = None,
    times: StageTimes | None = None,
) -> list[dict[str, Any]]:
    """The `topk` classes of every image.

        rows = mobilenext.predict("cat.jpg", weights="best.safetensors")
        rows[0]["classes"][0], rows[0]["scores"][0]

    Args:
        images: one of these, or an iterable of them:

            * the path of an image file, or of a folder that is searched through;
            * bytes, the content of an image file;
            * a Pillow image, of any mode that a file may have;
            * an array of uint8 pixels: RGB [H, W, 3], grey [H, W], or a batch [N, H, W, 3], which counts as N images.
        topk: classes for each image, at most as many as there are.
        model, weights, exported, onnx, preprocessing, identity_divisor, use, section, labels, output_name, device,
            runtime, engine, precision: as in ``evaluate``.
        batch_size: images a call of the network; the last call may have fewer.
        threads: of the network.
        times: what the stages took is added to it.

    Returns:
        Always a list, of one record for each image in order (one image: one record): ``path``, ``classes`` (ids),
        ``scores`` (softmax) and, where known, ``labels``; for an image that cannot be read, ``path`` and ``error``.
        The ``path`` of what is no file is ``image N``, its number from 0 among all images.
        The EXIF orientation of a photo is applied, which the evaluation does not do.

    Raises:
        DataError: a folder without images. UsageError: something else than an image, pixels of another type or shape,
        topk, batch_size or threads below one.
    """
    for name, value in (("topk", topk), ("batch_size", batch_size), ("threads", threads)):
        if value < 1:
            raise UsageError(f"{name} is {value}; expected a whole number from 1 up")
    sources = _sources(images)
    subject = find_subject(
        model=model, weights=weights, exported=exported, onnx=onnx, use=use, section=section,
        identity_divisor=identity_divisor, preprocessing=preprocessing, labels=labels, output_name=output_name,
    )  # fmt: skip
    choice = Choice(runtime, engine, resolve_device(device), threads, precision)
    times = StageTimes() if times is None else times
    rows: list[dict[str, Any]] = []
    with scratch_folder() as folder:
        prepared = prepare(subject, folder, choice)
        for note in prepared.notes:
            log.info("%s", note)
        applied, names = prepared.record.preprocessing, prepared.record.labels
        network = open_runtime(prepared.spec)
        for start in range(0, len(sources), batch_size):
            began = time.perf_counter()
            images_read = [(name, _pixels(name, image, applied)) for name, image in sources[start : start + batch_size]]
            readable = [pixels for _, pixels in images_read if not isinstance(pixels, str)]
            batch = applied.normalize(np.stack(readable)) if readable else None  # [N, 3, S, S]
            read = time.perf_counter()
            (logits,) = network.predict(batch) if batch is not None else (np.empty((0, 0), np.float32),)  # [N, classes]
            predicted = time.perf_counter()
            answers = iter(zip(ranked(logits, topk), softmax(logits), strict=True) if readable else ())
            for name, pixels in images_read:
                if isinstance(pixels, str):
                    rows.append({"path": name, "error": pixels})
                    continue
                best, scores = next(answers)
                row: dict[str, Any] = {"path": name, "classes": [int(number) for number in best]}
                row["scores"] = [round(float(scores[number]), 6) for number in best]
                if names:
                    row["labels"] = [names[number] for number in best]
                rows.append(row)
            times.preprocess += read - began
            times.inference += predicted - read
            times.postprocess += time.perf_counter() - predicted
            times.images += len(readable)
    return rows


def _sources(images: ImageLike | Iterable[ImageLike]) -> list[tuple[str, Path | bytes | Image.Image | Pixels]]:
    """Each image with its name."""
    one = isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray)
    if not one and not isinstance(images, Iterable):
        raise UsageError(_no_image(images))
    sources: list[tuple[str, Path | bytes | Image.Image | Pixels]] = []
    for image in [images] if one else images:  # type: ignore[union-attr]
        if isinstance(image, str | os.PathLike):
            sources += [(str(path), path) for path in find_images([image])]
        elif isinstance(image, bytes | Image.Image):
            sources.append((f"image {len(sources)}", image))
        elif isinstance(image, np.ndarray):
            batch = image if image.ndim == 4 else image[np.newaxis]  # [N, H, W, 3] or, grey, [1, H, W]
            color = batch.ndim == 4 and batch.shape[3] == 3
            if image.dtype != np.uint8 or not (color or image.ndim == 2) or 0 in batch.shape[1:]:
                raise UsageError(_no_image(image))
            sources += [(f"image {len(sources) + number}", pixels) for number, pixels in enumerate(batch)]
        else:
            raise UsageError(_no_image(image))
    return sources


def _no_image(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        kind = f"an array of {value.dtype} {list(value.shape)}"
    return (
        f"images: {kind}; expected paths, Pillow images, the bytes of image files, or arrays of uint8, 0 to 255: RGB "
        "[H, W, 3], grey [H, W] or a batch [N, H, W, 3]"
    )


def _pixels(name: str, image: Path | bytes | Image.Image | Pixels, preprocessing: Preprocessing) -> Pixels | str:
    """uint8 [S, S, 3], upright, or what is wrong with the image."""
    try:
        if isinstance(image, Path):
            rgb = read_image(image, apply_orientation=True)
        elif isinstance(image, bytes):
            rgb = decode_image(image, name, apply_orientation=True)
        else:
            opened = image if isinstance(image, Image.Image) else Image.fromarray(image)
            rgb = as_rgb(opened, name, apply_orientation=True)
    except ImageError as error:
        return str(error)
    try:
        return preprocessing.pixels(rgb)
    except ImageError as error:
        return f"{name}: {error}"
