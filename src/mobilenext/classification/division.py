"""Divide the training images into some that train and some that validate, and keep both lists in the run's folder."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilenext.data import LabelledDataset, LabelledImage
from mobilenext.data.dataset import class_name_of
from mobilenext.data.layouts import LIST_NAME as VAL_LIST
from mobilenext.data.layouts import TRAIN_LIST
from mobilenext.data.list_finder import Finder, NotFound
from mobilenext.data.parts import part_of
from mobilenext.data.problems import raise_problems
from mobilenext.errors import DataError, DatasetError, UsageError

_DIVISION = 0x5B117  # what the generator is for: none of those of the training has this number


def share_of(val_split: str | float | None) -> float | None:
    """Return the share of the training images that validates; None where `val_split` is the name of a part, or None.

    Raises:
        UsageError: a number that is no share, or the training part.
    """
    if val_split is None:
        return None
    text = str(val_split).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        if re.fullmatch(r"[\d.,]+%?", text):
            raise UsageError(f"val_split is {text}; expected a share such as 0.2, or the name of a part") from None
        if part_of(text) == "train":
            raise UsageError(
                f"val_split is {text}: images that train cannot validate; a share such as 0.2 divides them"
            ) from None
        return None
    if not 0 < share < 1:
        raise UsageError(
            f"val_split is {text}; expected a share between 0 and 1, such as 0.2, or the name of a part, such as test"
        )
    return share


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
    drawn: set[Path] = set()
    for label, paths in sorted(files.items()):
        count = min(max(1, int(len(paths) * share + 0.5)), len(paths) - 1)
        order = np.random.default_rng([seed, _DIVISION, label]).permutation(len(paths))
        by_name = sorted(paths)
        drawn |= {by_name[index] for index in order[:count]}
    if not drawn:
        raise DatasetError(f"{root}: no class has two images, so none can be divided; name a validation part")
    single = [class_name_of(dataset, label) for label, paths in sorted(files.items()) if len(paths) == 1]
    training: list[LabelledImage] = []
    validation: dict[Path, LabelledImage] = {}
    for record in dataset.records:
        renamed = dataclasses.replace(record, name=_name(record.path, root))
        if record.path in drawn:
            validation.setdefault(record.path, renamed)
        else:
            training.append(renamed)
    notes = [
        f"of {len(training) + len(validation):,} images, {len(validation):,} validate: {share:g} of each class, drawn "
        f"with seed {seed}"
    ]
    if single:
        notes.append(f"classes with one image, which trains: {', '.join(single[:10])}{', ...' * (len(single) > 10)}")
    return (
        dataclasses.replace(_part(dataset, root, training), notes=(*dataset.notes, *notes)),
        _part(dataset, root, list(validation.values())),
    )


def lists_of(training: LabelledDataset, validation: LabelledDataset) -> Mapping[str, bytes]:
    """Return the two lists as files of the run's folder: name, content."""
    return {
        name: b"".join(f"{r.name}\t{r.label}\n".encode("utf-8", "surrogateescape") for r in dataset.records)
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
    try:
        lines = list_file.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        pairs = [(name, int(label)) for name, _, label in (line.rpartition("\t") for line in lines)]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{list_file}, the list of the run's images, cannot be read: {error}; start the run anew"
        ) from error
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


def _part(dataset: LabelledDataset, root: Path, records: list[LabelledImage]) -> LabelledDataset:
    return dataclasses.replace(
        dataset,
        root=root,
        records=tuple(dataclasses.replace(record, index=index) for index, record in enumerate(records)),
        total=len(records),
        unreadable={r.path: dataset.unreadable[r.path] for r in records if r.path in dataset.unreadable},
    )


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.absolute().as_posix()
    if "\n" in name:
        raise DatasetError(f"{name!r}: a name with a line break cannot stand in a list; rename the file")
    return name
