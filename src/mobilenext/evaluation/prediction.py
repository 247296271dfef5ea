"""Answers for single images, through the same decoder and preprocessing as the evaluation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from mobilenext.arrays import Floats, Outputs
from mobilenext.data import find_images
from mobilenext.data.images import as_rgb, decode_image, read_image
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.data.resampling import LOADING_PAYS, expect
from mobilenext.errors import ImageError, UsageError
from mobilenext.evaluation.pictures import Pictures, picture_paths
from mobilenext.machine.temporary import scratch_folder
from mobilenext.runtime import open_runtime, outputs_of
from mobilenext.sources.choice import choose_one
from mobilenext.sources.find import find_subject, task_of
from mobilenext.sources.options import Answering, split_options, take_options
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.tasks import DEFAULT, task_of_file

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.sources.options import PredictionOptions
    from mobilenext.task import Task
    from mobilenext.weights.record import WeightsRecord

log = logging.getLogger(__name__)

# A file or folder; the content of an image file; an open image; uint8 pixels [H, W, 3], [H, W] or [N, H, W, 3].
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | Pixels

Opened: TypeAlias = Path | bytes | Image.Image | Pixels  # one image each


@dataclass
class StageTimes:
    """Seconds that a prediction spent before, in and after the network, without opening it."""

    preprocess: float = 0.0  # reading, resizing and normalizing
    inference: float = 0.0
    postprocess: float = 0.0
    images: int = 0


def predict(
    images: ImageLike | Iterable[ImageLike],
    *,
    output: str | os.PathLike[str] | None = None,
    times: StageTimes | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[PredictionOptions],
) -> list[dict[str, Any]]:
    """Return the answer of a network for every image: the best classes, or objects with their boxes.

        rows = mobilenext.predict("cat.jpg", weights="best.safetensors")
        rows[0]["classes"][0], rows[0]["scores"][0]

    Args:
        images: one of these, or an iterable of them:
            * the path of an image file, or of a folder that is searched through;
            * bytes, the content of an image file;
            * a Pillow image, of any mode that a file may have;
            * an array of uint8 pixels: RGB [H, W, 3], gray [H, W], or a batch [N, H, W, 3], which counts as N images.
        output: a folder for the images with their boxes, upright and under their names, with a number where a name is
            taken; or the picture of a single image. None: no pictures.
        times: the seconds of the stages are added to it. progress: called with the number of images done, and of all.
        options: as in ``evaluate``, but ``batch_size`` and ``threads`` are 1 if not given. A classifier takes
            ``topk``, the number of classes for each image (default 5, at most as many as there are).

    Returns:
        Always a list, of one record for each image in order (one image: one record): ``path`` and, of a classifier,
        ``classes`` (ids), ``scores`` (softmax) and, where known, ``labels``; of another task, its name as ``task`` and
        the fields of its answer; with `output`, the path of its picture as ``output``. For an image that cannot be
        read: ``path`` and ``error``. An image that is no file has the path ``image N``, its number from 0 among all.
        The EXIF orientation of a photo is applied; the evaluation does not do that.

    Raises:
        DataError: a folder without images. UsageError: something else than an image, pixels of another type or shape,
        topk, batch_size or threads below one, an option that means nothing to the network's task, pictures of answers
        that cannot be drawn or that would be written over an image. OutputError: a picture cannot be written.
    """
    rest: dict[str, Any] = dict(options)
    answering = take_options(Answering, rest)
    source, execution = split_options(rest, "predict")
    choice = choose_one(execution)
    named = _sources(images)
    subject = find_subject(**source)
    task = task_of_file(task_of(subject), subject.path)
    settings = task.options_of(answering)
    pictures = None if output is None else _pictures_of(task, Path(output), named)
    times = StageTimes() if times is None else times
    rows: list[dict[str, Any]] = []
    with scratch_folder() as folder:
        prepared = prepare(subject, folder, choice)
        _introduce(prepared, len(named))
        outputs_of_batch = partial(outputs_of, open_runtime(prepared.spec), flip=settings.get("flip", False))
        answer, preprocessing = partial(_answer, task, prepared.record, settings), prepared.record.preprocessing
        for start in range(0, len(named), choice.batch_size):
            batch = [Read(start + at, *image) for at, image in enumerate(named[start : start + choice.batch_size])]
            rows += _answers(outputs_of_batch, preprocessing, batch, answer, times, pictures)
            if progress:
                progress(len(rows), len(named))
    return rows


def _introduce(prepared: Prepared, images: int) -> None:
    """Log what there is to know before the answers."""
    for note in prepared.notes:
        log.info("%s", note)
    if images >= LOADING_PAYS:
        preprocessing = prepared.record.preprocessing
        expect(images, preprocessing.interpolation, preprocessing.image_size)


def _answer(
    task: Task, network: WeightsRecord, settings: Mapping[str, Any], outputs: Outputs, images: Sequence[Read]
) -> list[dict[str, Any]]:
    """Return the answer for each image, with the name of its task where that is not the usual one."""
    options = {**settings, "sizes": [image.size for image in images], "names": [image.name for image in images]}
    named_task = {} if task.name == DEFAULT else {"task": task.name}
    return [named_task | row for row in task.evaluation.answer(outputs, network, options)]


def _pictures_of(task: Task, output: Path, named: Sequence[tuple[str, Opened]]) -> Pictures:
    if task.presentation.draw is None:
        raise UsageError(f"output is {output}, but the answers of a network for {task.name} are not drawn on images")
    files = [image for _, image in named if isinstance(image, Path)]
    return Pictures(picture_paths(output, [name for name, _ in named], files), task.presentation.draw)


@dataclass
class Read:
    """One of the images, and what became of it."""

    place: int
    name: str
    source: Opened
    pixels: Pixels | None = None  # [S, S, 3]; None: it cannot be read
    size: tuple[int, int] = (0, 0)  # width and height, upright
    upright: Image.Image | None = None  # while it is to be drawn on
    problem: str = ""


def _answers(
    outputs_of_batch: Callable[[Floats], Outputs],
    preprocessing: Preprocessing,
    images: Sequence[Read],
    answer: Callable[[Outputs, Sequence[Read]], list[dict[str, Any]]],
    times: StageTimes,
    pictures: Pictures | None,
) -> list[dict[str, Any]]:
    """Return a row for each image of a batch, and add the seconds of the stages to `times`.

    `answer` gets the outputs [N, ...] for the N readable images, and these images.
    """
    began = time.perf_counter()
    for image in images:
        _read(image, preprocessing, keep=pictures is not None)
    readable = [image for image in images if image.pixels is not None]
    pixels = [image.pixels for image in readable if image.pixels is not None]
    batch = preprocessing.normalize(np.stack(pixels)) if readable else None  # [N, 3, S, S]
    read = time.perf_counter()
    outputs = outputs_of_batch(batch) if batch is not None else ()  # each [N, ...]
    predicted = time.perf_counter()
    answers = iter(answer(outputs, readable) if readable else ())
    rows = [
        {"path": image.name, "error": image.problem} if image.problem else {"path": image.name, **next(answers)}
        for image in images
    ]
    times.preprocess += read - began
    times.inference += predicted - read
    times.postprocess += time.perf_counter() - predicted
    times.images += len(readable)
    for image, row in zip(images, rows, strict=True):
        if pictures is not None and image.upright is not None:
            row["output"] = str(pictures.write(image.place, image.upright, row))
    return rows


def _sources(images: ImageLike | Iterable[ImageLike]) -> list[tuple[str, Opened]]:
    """Return each image with its name."""
    one = isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray)
    if not one and not isinstance(images, Iterable):
        raise UsageError(_no_image(images))
    sources: list[tuple[str, Opened]] = []
    for image in [images] if one else images:  # type: ignore[union-attr]
        if isinstance(image, str | os.PathLike):
            sources += [(str(path), path) for path in find_images([image])]
        elif isinstance(image, bytes | Image.Image):
            sources.append((f"image {len(sources)}", image))
        elif isinstance(image, np.ndarray):
            batch = image if image.ndim == 4 else image[np.newaxis]  # [N, H, W, 3] or, gray, [1, H, W]
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
        "[H, W, 3], gray [H, W] or a batch [N, H, W, 3]"
    )


def _read(image: Read, preprocessing: Preprocessing, *, keep: bool) -> None:
    """Set the pixels and the size of an image, or what is wrong with it; `keep` the upright image as well."""
    source = image.source
    try:
        if isinstance(source, Path):
            rgb = read_image(source, apply_orientation=True)
        elif isinstance(source, bytes):
            rgb = decode_image(source, image.name, apply_orientation=True)
        else:
            opened = source if isinstance(source, Image.Image) else Image.fromarray(source)
            rgb = as_rgb(opened, image.name, apply_orientation=True)
    except ImageError as error:
        image.problem = str(error)
        return
    try:
        image.pixels, image.size = preprocessing.pixels(rgb), rgb.size
    except ImageError as error:
        image.problem = f"{image.name}: {error}"
        return
    image.upright = rgb if keep else None
