"""Check a data set before spending hours on it: its list, its labels, and that every image decodes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mobilenext.data import Preprocessing, Record, describe, open_dataset, pixels_of, read_image
from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.dataset import open_training
from mobilenext.data.layouts import LIST_NAME, TRAIN_LIST
from mobilenext.data.parts import find_layout, find_list
from mobilenext.data.problems import PROBLEMS_SHOWN, unreadable_text
from mobilenext.errors import DataError, ImageError, UsageError
from mobilenext.machine.cores import available_cores
from mobilenext.machine.pool import WorkerPool

CHUNK = 32
SEARCH_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """How ``mobilenext check-data`` looks at the data of a task."""

    # The folder of the data and, as keywords, a list file and the options: counts, sentences and verdicts, as JSON.
    check: Callable[..., dict[str, Any]]
    options: frozenset[str]  # names of its keywords, beside the list file
    # Whether a folder, or a list file of it, has the layout of this task's data alone; None: not to be told by that.
    recognizes: Callable[[Path, Path | None], bool] | None = None


def _decode(records: Sequence[Record]) -> list[tuple[int, int] | str]:
    """Return width and height of each image, or why it cannot be read."""
    outcomes: list[tuple[int, int] | str] = []
    for record in records:
        try:
            outcomes.append(read_image(record.path).size)
        except ImageError as error:
            outcomes.append(str(error))
    return outcomes


def check_workers(workers: int | None) -> None:
    """Raise UsageError for a number of processes below 1."""
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; expected a whole number from 1 up")


def decode_all(
    records: Sequence[Record], workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> list[tuple[int, int] | str]:
    """Return width and height of each image, or why it cannot be read; `progress` gets the number done and all."""
    outcomes: list[tuple[int, int] | str] = []
    chunks = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
    with WorkerPool(workers or available_cores()) as pool:
        for chunk in pool.map(_decode, chunks):
            outcomes += chunk
            if progress:
                progress(len(outcomes), len(records))
    return outcomes


def _problems(preprocessing: Preprocessing | None, records: Sequence[Record]) -> list[str]:
    """Return why images cannot be read or, with `preprocessing`, cannot be resized."""
    problems = []
    for record in records:
        try:
            pixels_of(record.path, preprocessing) if preprocessing else read_image(record.path)
        except ImageError as error:
            problems.append(str(error))
    return problems


def unreadable_images(
    records: Sequence[Record], workers: int, preprocessing: Preprocessing | None = None
) -> tuple[list[str], bool]:
    """Return a sentence on each of the first `PROBLEMS_SHOWN` images that cannot be read; whether these are all.

    With `preprocessing`, images that are too narrow to be resized count as well. After `SEARCH_SECONDS` the search
    ends with what it has.
    """
    problems: list[str] = []
    started = time.monotonic()
    chunks = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
    with WorkerPool(workers) as pool:
        for sentences in pool.map(partial(_problems, preprocessing), chunks):
            problems += sentences
            if len(problems) >= PROBLEMS_SHOWN or time.monotonic() - started > SEARCH_SECONDS:
                return problems[:PROBLEMS_SHOWN], False
    return problems, True


def check_data(
    data: str | os.PathLike[str],
    *,
    list_file: str | os.PathLike[str] | None = None,
    split: str | None = None,
    num_classes: int | None = None,
    workers: int | None = None,
    decode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Describe a data set and the problems in it.

    Args:
        data, list_file, split: as in ``evaluate``.
        num_classes: labels must be below it; 1000 compares with ImageNet's validation set.
        workers: processes that decode.
        decode: False checks the list only.

    Returns:
        Counts of images and classes, ``warnings``, ``unreadable``: a sentence for each image that does not decode, and
        ``verdict``: for ``evaluate`` and, where there is a training part, ``train``, whether the data are ``usable``
        and a sentence, ``reason``. The training part is not decoded.

    Raises:
        DatasetError: the list or the layout is wrong; all problems at once.
    """
    check_workers(workers)
    dataset = open_dataset(data, list_file=list_file, num_classes=num_classes, split=split)
    summary: dict[str, Any] = describe(dataset, num_classes).to_dict()
    summary["warnings"] = list(summary.get("warnings", ()))
    unreadable: list[str] = []
    if decode:
        sizes: Counter[tuple[int, int]] = Counter()
        for outcome in decode_all(dataset.records, workers, progress):
            if isinstance(outcome, str):
                unreadable.append(outcome)
            else:
                sizes[outcome] += 1
        summary["decoded"] = sum(sizes.values())
        if sizes:
            summary["smallest_side"] = min(min(size) for size in sizes)
            summary["largest_side"] = max(max(size) for size in sizes)
    count = f"{len(unreadable):,} of {len(dataset):,} images cannot be read"
    verdict = {
        "evaluate": {"usable": not unreadable, "reason": count if unreadable else None if decode else "not decoded"}
    }
    if list_file is None and split is None and (training := _training_verdict(Path(data), num_classes, unreadable)):
        verdict["train"] = training
    return {**summary, "unreadable": unreadable, "verdict": verdict}


def _training_verdict(root: Path, num_classes: int | None, unreadable: Sequence[str]) -> dict[str, Any] | None:
    """Return whether the data are usable for training, and why; None where there is nothing to train on.

    `unreadable` are images of the part that is evaluated, which is the whole where there are no parts.
    """
    layout = find_layout(root)
    if "train" not in layout.parts and not (root / TRAIN_LIST).exists():
        if not layout.classes or (root / LIST_NAME).exists():
            return None
        return None if unreadable else {"usable": True, "reason": "with --val-split 0.2, which divides the images"}
    try:
        training = open_training(root, num_classes=num_classes)
        check_class_folders(training, num_classes)
        if problems := list(training.unreadable.values()):
            return {"usable": False, "reason": unreadable_text(problems)}
        opened = f"{len(training):,} training images, which were not decoded"
        validated = (root / LIST_NAME).exists() or "val" in layout.parts or find_list(root, "val") is not None
    except DataError as error:
        return {"usable": False, "reason": str(error)}
    return {"usable": True, "reason": opened if validated else f"{opened}; with --val-split 0.2 or --val-split test"}


def size_problems(sizes: Sequence[tuple[int, int]], preprocessing: Preprocessing) -> list[str]:
    """Return a sentence where images do not suit the size and crop of a network.

    Args:
        sizes: width and height of some of them.
        preprocessing: of the network.
    """
    if not sizes:
        return []
    short = sorted(min(size) for size in sizes)[len(sizes) // 2]  # pixels, of the image in the middle
    size, enlarged = preprocessing.image_size, preprocessing.resize_size
    if short == size < enlarged:
        return [
            f"the images are {size} px already, and crop_pct {preprocessing.crop_pct:g} enlarges them to {enlarged} px "
            f"and cuts their margins off: --crop-pct 1?"
        ]
    if short < size:
        return [
            f"the images are {short} px and are enlarged to {enlarged} px for a network of {size} px: if it was "
            f"trained on images of this size, --image-size {short} --crop-pct 1?"
        ]
    return []
