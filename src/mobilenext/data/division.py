"""Divide the training images into some that train and some that validate; each task groups its images and keeps lists.

What is drawn depends on the seed and on the names of the files, not on the order in which a list or a folder has them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from mobilenext.data.parts import part_of
from mobilenext.data.records import Dataset, Record
from mobilenext.errors import DataError, DatasetError, UsageError

_DIVISION = 0x5B117  # what the generator is for: none of those of the training has this number
_Dataset = TypeVar("_Dataset", bound=Dataset)


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


def draw_files(groups: Mapping[int, Collection[Path]], share: float, seed: int) -> set[Path]:
    """Draw `share` of the files of each group, such as a class.

    Of a group of two files or more, each side has at least one; a single file is not drawn.
    """
    drawn: set[Path] = set()
    for group, paths in sorted(groups.items()):
        count = min(max(1, int(len(paths) * share + 0.5)), len(paths) - 1)
        order = np.random.default_rng([seed, _DIVISION, group]).permutation(len(paths))
        by_name = sorted(paths)
        drawn |= {by_name[index] for index in order[:count]}
    return drawn


def split_records(dataset: _Dataset, root: Path, drawn: Collection[Path]) -> tuple[_Dataset, _Dataset]:
    """Return the records of the files that were not drawn and of those that were, both in their order.

    A file that a list repeats is on one side only, once where that is the validation. Names are relative to `root`.

    Raises:
        DatasetError: a name with a line break, which no list can hold.
    """
    training: list[Record] = []
    validation: dict[Path, Record] = {}
    for record in dataset.records:
        renamed = dataclasses.replace(record, name=_name(record.path, root))
        if record.path in drawn:
            validation.setdefault(record.path, renamed)
        else:
            training.append(renamed)
    return _part(dataset, root, training), _part(dataset, root, list(validation.values()))


def list_content(lines: Collection[str]) -> bytes:
    """Return the content of a list in a run's folder, which `list_lines` reads."""
    return b"".join(f"{line}\n".encode("utf-8", "surrogateescape") for line in lines)


def list_lines(list_file: Path) -> list[str]:
    """Return the lines of a list in a run's folder.

    Raises:
        DataError: a list that is missing or damaged.
    """
    try:
        return list_file.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise damaged_list(list_file, error) from error


def damaged_list(list_file: Path, error: Exception) -> DataError:
    """Return the error of a list in a run's folder that cannot be read."""
    return DataError(f"{list_file}, the list of the run's images, cannot be read: {error}; start the run anew")


def _part(dataset: _Dataset, root: Path, records: list[Record]) -> _Dataset:
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


def warn_of_shared_images(training: Dataset, validation: Dataset) -> list[str]:
    """Return a sentence on the validation images that are training images, too; none where there are none."""
    trained = {record.path for record in training.records}
    both = [record.name for record in validation.records if record.path in trained]
    if not both:
        return []
    return [
        f"{len(both):,} of {len(validation):,} validation images are training images, too, such as {both[0]}: "
        "the score will be too high"
    ]
