"""The images of a quantization: those that calibrate, and others that the loss is measured on."""

from __future__ import annotations

import filecmp
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.data import Dataset, LabelledDataset, Record, find_images, open_dataset, pixels_of
from mobilenext.data.dataset import open_training
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DatasetError, UsageError
from mobilenext.task import OwnDataset, Task

log = logging.getLogger(__name__)
FEWEST = 16  # calibration images
MOST = 256
BATCH = 8


class ImageOptions(TypedDict, total=False):
    """Which images calibrate, and which are evaluated."""

    calibration_list: str | os.PathLike[str] | None  # the list of a data set; None: its ``val_list.txt``
    calibration_images: int  # how many at most, spread evenly (default: 256)
    data: str | os.PathLike[str] | None  # the data set to evaluate on; None: the rest of the calibration's
    list_file: str | os.PathLike[str] | None  # its list
    split: str | None  # its part, such as ``test``


def divide(calibration: str | os.PathLike[str], options: ImageOptions) -> tuple[list[Path], LabelledDataset]:
    """Return the images to calibrate with, and the data set of others to evaluate on.

    Raises:
        UsageError: options that cannot work. DatasetError: no data, or an image that is on both sides.
    """
    calibration_list, count = options.get("calibration_list"), options.get("calibration_images", MOST)
    data, list_file = options.get("data"), options.get("list_file")
    if count < FEWEST:
        raise UsageError(f"calibration_images is {count}; expected at least {FEWEST}")
    if data is not None:
        paths = _calibration_paths(calibration, calibration_list)
        chosen = spread(paths, count)
        dataset = open_dataset(data, list_file=list_file, split=options.get("split"), check_classes=False)
        _check_disjoint(chosen, dataset)
        _log_notes(dataset)
        return chosen, dataset
    if options.get("split") is not None:
        raise UsageError("a split was given without the data set that it is of (--data)")
    if list_file is not None:
        raise UsageError("a list was given without the data set that it is of (--data)")
    dataset = open_dataset(calibration, list_file=calibration_list, check_classes=False)
    _log_notes(dataset)
    # At most a third: the rest must be able to tell a point of top-1.
    chosen_records = spread(dataset.records, min(count, len(dataset) // 3))
    _check_enough(len(chosen_records), len(dataset), calibration)
    taken = {record.index for record in chosen_records}
    rest = tuple(record for record in dataset.records if record.index not in taken)
    remaining = replace(dataset, records=rest)
    chosen = [record.path for record in chosen_records]
    _check_disjoint(chosen, remaining)
    return chosen, remaining


def divide_for(task: Task, calibration: str | os.PathLike[str], options: ImageOptions) -> tuple[list[Path], OwnDataset]:
    """Do the same for a task other than classification, whose data set must be named.

    Pictures of that data set which lie in the folder `calibration` are left out of the calibration, which is logged.

    Raises:
        UsageError: no data to evaluate on, or options that cannot work. DatasetError: as `divide`, and of the data.
    """
    data, count = options.get("data"), options.get("calibration_images", MOST)
    if data is None:
        raise UsageError(f"no data set to measure {task.metric.display} on; expected --data, and a --split of it")
    if options.get("calibration_list") is not None:
        raise UsageError("calibration_list is of classifiers; expected a folder of images alone")
    if count < FEWEST:
        raise UsageError(f"calibration_images is {count}; expected at least {FEWEST}")
    dataset = task.evaluation.open_data(data, list_file=options.get("list_file"), split=options.get("split"))
    _log_notes(dataset)
    paths = find_images([os.fspath(calibration)])
    evaluated = {record.path.resolve() for record in dataset.records}
    others = [path for path in paths if path.resolve() not in evaluated]
    if len(others) < len(paths):
        log.info("%d images that are evaluated are left out of the calibration", len(paths) - len(others))
    _check_enough(len(others), len(paths), calibration)
    chosen = spread(others, count)
    _check_disjoint(chosen, dataset)
    return chosen, dataset


def _log_notes(dataset: Dataset) -> None:
    for note in dataset.all_notes():
        log.info("%s", note)


def _calibration_paths(folder: str | os.PathLike[str], list_file: str | os.PathLike[str] | None) -> list[Path]:
    """Return the images of a data set by its list, or of any folder: labels are not needed."""
    if list_file is not None or (Path(folder) / "val_list.txt").is_file():
        # Mostly a training list, which may repeat lines.
        listed = open_training(folder, list_file=list_file or Path(folder) / "val_list.txt")
        paths = list(dict.fromkeys(record.path for record in listed.records))
    else:
        paths = find_images([os.fspath(folder)])
    _check_enough(len(paths), len(paths), folder)
    return paths


def _check_enough(count: int, total: int, folder: str | os.PathLike[str]) -> None:
    if count < FEWEST:
        raise DatasetError(
            f"{folder} has {total} images, of which {count} could calibrate; expected at least {FEWEST}, and some "
            "hundreds are better"
        )


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the items, evenly over the whole."""
    if not items:
        return []
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def _check_disjoint(chosen: Sequence[Path], dataset: Dataset) -> None:
    """Raise DatasetError for an image that is calibrated on and evaluated; the same picture twice counts too."""
    by_size: dict[int, list[Record]] = defaultdict(list)
    for record in dataset.records:
        by_size[record.path.stat().st_size].append(record)
    for path in chosen:
        for record in by_size.get(path.stat().st_size, ()):
            if path.samefile(record.path) or filecmp.cmp(path, record.path, shallow=False):
                raise DatasetError(
                    f"{path} is among the images to calibrate with and, as {record.name}, among those to evaluate on; "
                    "the loss must be measured on images that were not calibrated with"
                )


def batches(paths: Sequence[Path], preprocessing: Preprocessing) -> list[Floats]:
    """Return normalized images [N, 3, S, S], N up to 8."""
    return [
        preprocessing.normalize(np.stack([pixels_of(path, preprocessing) for path in paths[start : start + BATCH]]))
        for start in range(0, len(paths), BATCH)
    ]
