"""Check a data set before spending hours on it: its list, its labels, and that every image decodes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mobilenext.data import Preprocessing, Record, describe, open_dataset, pixels_of, read_image
from mobilenext.data.batches import WorkerPool, available_cores
from mobilenext.data.list_file import PROBLEMS_SHOWN
from mobilenext.errors import ImageError, UsageError

CHUNK = 32
SEARCH_SECONDS = 60


def _decode(records: Sequence[Record]) -> list[tuple[int, int] | str]:
    """Width and height of each image, or why it cannot be read."""
    outcomes: list[tuple[int, int] | str] = []
    for record in records:
        try:
            outcomes.append(read_image(record.path).size)
        except ImageError as error:
            outcomes.append(str(error))
    return outcomes


def _problems(preprocessing: Preprocessing | None, records: Sequence[Record]) -> list[str]:
    """Why images cannot be read or, with `preprocessing`, cannot be resized."""
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
    """A sentence for each of the first `PROBLEMS_SHOWN` images that cannot be read; whether these are all of them.

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
    num_classes: int | None = None,
    workers: int | None = None,
    decode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What a data set holds, and what is wrong with it.

    Args:
        data, list_file: as in ``evaluate``.
        num_classes: labels must be below it; 1000 compares with ImageNet's validation set.
        workers: processes that decode.
        decode: False checks the list only.

    Returns:
        Counts of images and classes, ``warnings``, and ``unreadable``: a sentence for each image that does not decode.

    Raises:
        DatasetError: the list or the layout is wrong; all problems at once.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; expected a whole number from 1 up")
    dataset = open_dataset(data, list_file=list_file, num_classes=num_classes)
    summary: dict[str, Any] = describe(dataset, num_classes).to_dict()
    summary["warnings"] = list(summary.get("warnings", ()))
    unreadable: list[str] = []
    if decode:
        sizes: Counter[tuple[int, int]] = Counter()
        chunks = [dataset.records[start : start + CHUNK] for start in range(0, len(dataset), CHUNK)]
        done = 0
        with WorkerPool(workers or available_cores()) as pool:
            for outcomes in pool.map(_decode, chunks):
                for outcome in outcomes:
                    if isinstance(outcome, str):
                        unreadable.append(outcome)
                    else:
                        sizes[outcome] += 1
                done += len(outcomes)
                if progress:
                    progress(done, len(dataset))
        summary["decoded"] = sum(sizes.values())
        if sizes:
            summary["smallest_side"] = min(min(size) for size in sizes)
            summary["largest_side"] = max(max(size) for size in sizes)
    return {**summary, "unreadable": unreadable}
