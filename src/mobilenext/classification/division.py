"""Divide labeled training images, a share of each class, and keep both lists in the run's folder."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from mobilenext.data import LabelledDataset, LabelledImage
from mobilenext.data.dataset import class_name_of
from mobilenext.data.division import damaged_list, draw_files, list_content, list_lines, split_records
from mobilenext.data.layouts import LIST_NAME as VAL_LIST
from mobilenext.data.layouts import TRAIN_LIST
from mobilenext.data.list_finder import Finder, NotFound
from mobilenext.data.problems import raise_problems
from mobilenext.errors import DatasetError


def divide(dataset: LabelledDataset, root: Path, share: float, seed: int) -> tuple[LabelledDataset, LabelledDataset]:
    """Draw `share` of the images of each class for the validation; the training keeps the others, both in their order.

    Of a class of two images or more, each side has at least one; a single image trains. A file that a list repeats is
    on one side only, once where that is the validation. Names are relative to `root`.

    Raises:
        DatasetError: no class of two images; a name with a line break, which no list can hold.
    """
    files: dict[int, set[Path]] = defaultdict(set)
    for record in dataset.records:
        files[record.label].add(record.path)
    drawn = draw_files(files, share, seed)
    if not drawn:
        raise DatasetError(f"{root}: no class has two images, so none can be divided; name a validation part")
    training, validation = split_records(dataset, root, drawn)
    single = [class_name_of(dataset, label) for label, paths in sorted(files.items()) if len(paths) == 1]
    notes = [
        f"of {len(training) + len(validation):,} images, {len(validation):,} validate: {share:g} of each class, drawn "
        f"with seed {seed}"
    ]
    if single:
        notes.append(f"classes with one image, which trains: {', '.join(single[:10])}{', ...' * (len(single) > 10)}")
    return dataclasses.replace(training, notes=(*dataset.notes, *notes)), validation


def lists_of(training: LabelledDataset, validation: LabelledDataset) -> Mapping[str, bytes]:
    """Return the two lists as files of the run's folder: name, content."""
    return {
        name: list_content([f"{record.name}\t{record.label}" for record in dataset.records])
        for name, dataset in ((TRAIN_LIST, training), (VAL_LIST, validation))
    }


def read_divided(folder: Path, root: Path) -> tuple[LabelledDataset, LabelledDataset]:
    """Open the parts of a run that was divided, by its lists in `folder`; the images lie below `root`.

    Raises:
        DataError: a list that is missing or damaged. DatasetError: images that are not there.
    """
    training, validation = (_read_list(folder / name, root) for name in (TRAIN_LIST, VAL_LIST))
    return training, validation


def _read_list(list_file: Path, root: Path) -> LabelledDataset:
    lines = list_lines(list_file)
    try:
        pairs = [(name, int(label)) for name, _, label in (line.rpartition("\t") for line in lines)]
    except ValueError as error:
        raise damaged_list(list_file, error) from error
    finder = Finder(root, list_file, bases=[root])
    records: list[LabelledImage] = []
    problems: list[str] = []
    for number, (name, label) in enumerate(pairs):
        try:
            path, _ = finder.find(name)
        except NotFound as error:
            problems.append(f"line {number + 1}: {name}: {error}")
        else:
            records.append(LabelledImage(number, path, name, label))
    if problems:
        raise_problems(list_file, problems)
    return LabelledDataset(root, "list", list_file, tuple(records), None, len(records), ())
