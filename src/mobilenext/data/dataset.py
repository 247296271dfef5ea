"""A folder of labelled images to an ordered, checked tuple of records.

Layouts, tried in this order:

    a list file given by the caller                 "list"
    ROOT/val_list.txt                               "list"
    ROOT/val/<class>/**                             "class-folders"
    ROOT/<class>/**, with two classes or more       "class-folders"

How a list is read is told in `mobilenext.data.list_file`.

Class folders get the labels 0, 1, 2, ... in the order of their names as strings (for ImageNet's n######## names, the
order everybody uses). Images are taken at any depth; other files are not images and are counted in `Dataset.ignored`.

Nothing else is left out: whatever does not fit is collected over the whole data set and raised as one `DatasetError`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mobilenext.data.images import PathLike, images_below
from mobilenext.data.list_file import IMAGES_FOLDER, raise_problems, read_list
from mobilenext.errors import DatasetError, UsageError

LIST_NAME = "val_list.txt"

LAYOUTS = f"""Layouts that are understood:
    ROOT/{LIST_NAME}               each line an image's name and its label, as in: val_1.JPEG 65
    ROOT/{IMAGES_FOLDER}/val_1.JPEG            names are looked up in ROOT/{IMAGES_FOLDER}, then in ROOT
or
    ROOT/val/n01440764/val_1.JPEG   a folder for each class; sorted by name they are classes 0, 1, 2, ...
or
    ROOT/n01440764/val_1.JPEG       the same without val
or any folder of images together with a list file that is named explicitly."""

_SPLIT_FOLDERS = frozenset({"train", "val", "test", IMAGES_FOLDER})  # hold a data set's parts: never a class


@dataclass(frozen=True)
class Record:
    """One labelled image."""

    index: int  # position in the data set, from 0
    path: Path  # where the file is
    name: str  # how it is shown and stored: relative to the root where it is below it, with slashes
    label: int  # class, from 0


@dataclass(frozen=True)
class Dataset:
    """Checked records in a fixed order."""

    root: Path
    layout: str  # "list" or "class-folders"
    list_file: Path | None
    records: tuple[Record, ...]
    class_names: tuple[str, ...] | None  # folder names by label; None for a list
    total: int  # records before `limit`
    ignored: tuple[str, ...]  # names of files that are no images, relative to the root

    def __len__(self) -> int:
        return len(self.records)

    def digest(self) -> str:
        """SHA-256 over all names and labels in order, in hexadecimal; pixels are not read."""
        sha256 = hashlib.sha256()
        for record in self.records:
            # A null cannot be in a name. Names that are no text at all come from the file system as surrogates.
            sha256.update(f"{record.name}\0{record.label}\n".encode("utf-8", "surrogateescape"))
        return sha256.hexdigest()


def open_dataset(
    root: PathLike,
    *,
    list_file: PathLike | None = None,
    num_classes: int | None = None,
    limit: int | None = None,
) -> Dataset:
    """Find the layout of `root`, check all of it, and keep the first `limit` records.

    With `num_classes`, labels must be below it, and class folders must be exactly so many.

    Raises:
        DatasetError: no layout that is understood, or the problems found in it: the first 20 and their number.
        UsageError: `limit` or `num_classes` below 1.
    """
    for name, value in (("limit", limit), ("num_classes", num_classes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected 1 or more")
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: {'this is a file' if root.exists() else 'no such folder'}; expected a folder")
    if list_file is None and (root / LIST_NAME).exists():
        list_file = root / LIST_NAME
    if list_file is not None:
        list_file = Path(list_file)
        records = [Record(index, *line) for index, line in enumerate(read_list(root, list_file, num_classes))]
        return Dataset(root, "list", list_file, tuple(records[:limit]), None, len(records), ())
    folder = _folder_of_classes(root)
    if folder is None:
        _refuse_layout(root)
    records, class_names, ignored = _read_class_folders(root, folder, num_classes)
    return Dataset(root, "class-folders", None, tuple(records[:limit]), class_names, len(records), ignored)


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds, in numbers; `to_dict` for JSON."""

    layout: str
    images: int
    total: int  # before a limit
    classes: int  # that have images
    min_per_class: int  # over the classes that have images
    max_per_class: int
    ignored: int  # files that are no images
    digest: str
    warnings: tuple[str, ...]  # what a careful reader should know before trusting a score

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"warnings": list(self.warnings)}


def describe(dataset: Dataset, num_classes: int | None = None) -> DatasetSummary:
    """Count images and classes; with 1000 classes, compare with ImageNet's validation set (50 images of each)."""
    per_class = Counter(record.label for record in dataset.records)
    images, fewest, most = len(dataset), min(per_class.values()), max(per_class.values())
    warnings = []
    if images < dataset.total:
        warnings.append(f"only the first {images:,} of {dataset.total:,} images are used")
    if dataset.ignored:
        warnings.append(f"{len(dataset.ignored):,} files are not images and are ignored, such as {dataset.ignored[0]}")
    if num_classes is not None and len(per_class) < num_classes:
        warnings.append(f"{num_classes - len(per_class):,} of {num_classes:,} classes have no image")
    if num_classes == 1000 and images != 50_000:
        warnings.append(f"{images:,} images; ImageNet's validation set has 50,000")
    if num_classes == 1000 and (fewest, most) != (50, 50):
        warnings.append(f"{fewest:,} to {most:,} images in a class; ImageNet's validation set has 50 in each")
    return DatasetSummary(
        layout=dataset.layout,
        images=images,
        total=dataset.total,
        classes=len(per_class),
        min_per_class=fewest,
        max_per_class=most,
        ignored=len(dataset.ignored),
        digest=dataset.digest(),
        warnings=tuple(warnings),
    )


def _folder_of_classes(root: Path) -> Path | None:
    if _subfolders(root / "val"):
        return root / "val"
    subfolders = _subfolders(root)
    # One folder of images is far more often a flat data set than one with a single class.
    if len(subfolders) < 2 or _SPLIT_FOLDERS.intersection(subfolders) or any(root.glob(f"*/{LIST_NAME}")):
        return None
    return root


def _subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read_class_folders(
    root: Path, folder: Path, num_classes: int | None
) -> tuple[list[Record], tuple[str, ...], tuple[str, ...]]:
    """Records, class names in the order of labels, and the names of the files that are no images."""
    images, others = images_below(folder)
    if not images:
        _refuse_layout(root)
    class_names = _subfolders(folder)
    _check_class_names(folder, class_names, num_classes)
    label_of = {name: label for label, name in enumerate(class_names)}
    records: list[Record] = []
    problems: list[str] = []
    for path in images:
        name = path.relative_to(root).as_posix()
        label = label_of.get(path.relative_to(folder).parts[0])
        if label is None:
            problems.append(f"{name}: an image outside the class folders, so without a class")
        else:
            records.append(Record(len(records), path, name, label))
    used = {record.label for record in records}
    problems += [f"{name}/: a class folder without images" for name, label in label_of.items() if label not in used]
    if problems:
        raise_problems(folder, problems)
    return records, tuple(class_names), tuple(path.relative_to(root).as_posix() for path in others)


def _check_class_names(folder: Path, class_names: list[str], num_classes: int | None) -> None:
    numbers = [name for name in class_names if name.isdecimal()]
    if len({len(name) for name in numbers}) > 1:
        raise DatasetError(
            f"{folder}: class folders are named by numbers of unequal length: {', '.join(numbers[:4])}, ...; sorted as "
            "text they are not in the order of the numbers, so labels would be wrong. Pad the names with zeros to "
            "equal length, or write a list file"
        )
    if num_classes is not None and len(class_names) != num_classes:
        raise DatasetError(
            f"{folder}: {len(class_names):,} class folders; expected {num_classes:,}. The k-th folder counts as class "
            "k, so unless each class has one, labels would be wrong; write a list file for a subset of the classes"
        )


def _refuse_layout(root: Path) -> NoReturn:
    raise DatasetError(f"{root}: {_what_was_found(root)}\n{LAYOUTS}")


def _what_was_found(root: Path) -> str:
    if nested_lists := sorted(root.glob(f"*/{LIST_NAME}")):
        return f"{nested_lists[0]} exists: did you mean {nested_lists[0].parent}?"
    parent = root.resolve().parent
    if (parent / LIST_NAME).is_file():
        return f"{parent / LIST_NAME} exists: did you mean {parent}?"
    if (root / IMAGES_FOLDER).is_dir():
        return f"there is a folder {IMAGES_FOLDER} but no list; expected {root / LIST_NAME}."
    images, others = images_below(root)
    if not images:
        return "no images in this folder." if others or _subfolders(root) else "this folder is empty."
    folders = {image.parent for image in images}
    if len(folders) == 1:
        return f"{folders.pop()} holds all images ({len(images):,}), and nothing gives them labels."
    return f"no {LIST_NAME}, and no class folders in val; found the folders {', '.join(_subfolders(root))}."
