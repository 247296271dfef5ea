"""Class folders to labelled images: the sorted names of the folders are the classes 0, 1, 2, ..."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from mobilenext.data.layouts import refuse_layout
from mobilenext.data.list_file import alike_notes
from mobilenext.data.listing import list_folder, visible_folders
from mobilenext.data.parts import is_filler
from mobilenext.data.problems import raise_problems
from mobilenext.data.records import LabelledDataset, LabelledImage
from mobilenext.errors import DatasetError


def open_class_folders(root: Path, folder: Path) -> LabelledDataset:
    """Open the class folders in `folder`; names are relative to `root`.

    Raises:
        DatasetError: no images, or the problems found: images outside the class folders, links that lead nowhere.
    """
    listing = list_folder(folder)
    if not listing.images:
        refuse_layout(root)
    folder_of = _class_folders(folder)
    class_names = sorted(folder_of)
    label_of = {folder_of[name]: label for label, name in enumerate(class_names)}
    records: list[LabelledImage] = []
    problems: list[str] = []
    for path in listing.images:
        name = path.relative_to(root).as_posix()
        label = label_of.get(path.relative_to(folder).parts[0])
        if label is None:
            problems.append(f"{name}: an image outside the class folders, so without a class")
        else:
            records.append(LabelledImage(len(records), str(path), name, label))
    problems += [
        f"{path.relative_to(root).as_posix()}: a link to {path.readlink()}, which is not there"
        for path in listing.others
        if path.parent == folder and not path.suffix and path.is_symlink() and not path.exists()
    ]
    used = {record.label for record in records}
    if len(used) == 1 and not problems and is_filler(name := class_names[next(iter(used))]):
        refuse_layout(root, f"{folder / name} holds all images ({len(records):,}), and nothing gives them labels.")
    empty = tuple(name for label, name in enumerate(class_names) if label not in used)
    if problems:
        raise_problems(folder, problems + _empty_folders(empty))
    ignored = tuple(path.relative_to(root).as_posix() for path in (*listing.leftovers, *listing.others))
    return LabelledDataset(
        root, "class-folders", None, tuple(records), tuple(class_names), len(records), ignored,
        notes=tuple(alike_notes(class_names)), unreadable=listing.unreadable, empty=empty,
    )  # fmt: skip


def _class_folders(folder: Path) -> dict[str, str]:
    """Return the folder of each class, by its name in the Unicode form NFC, the same whatever system has written it."""
    folder_of: dict[str, str] = {}
    for name in visible_folders(folder):
        class_name = unicodedata.normalize("NFC", name)
        if class_name in folder_of:
            raise DatasetError(
                f"{folder}: two class folders are called {class_name} and differ in the Unicode form only: "
                f"{folder_of[class_name]!a} and {name!a}; put them together"
            )
        folder_of[class_name] = name
    return folder_of


def _empty_folders(names: Iterable[str]) -> list[str]:
    return [f"{name}/: a class folder without images" for name in names]


def check_class_folders(dataset: LabelledDataset, num_classes: int | None) -> None:
    """Check that class folders, or a list's names, can count as the classes 0, 1, 2, ... by their place.

    Raises:
        DatasetError: numbers that are not sorted as such, folders without images, or not `num_classes` of them.
    """
    class_names = dataset.class_names
    if class_names is None:
        return
    if dataset.list_file is not None:
        if num_classes is not None and len(class_names) != num_classes:
            raise DatasetError(
                f"{dataset.list_file}: {len(class_names):,} class names; expected {num_classes:,}. The k-th of the "
                "sorted names counts as class k, so unless each class has images, labels would be wrong; write numbers "
                "for a subset"
            )
        return
    numbers = [name for name in class_names if name.isdecimal()]
    if len({len(name) for name in numbers}) > 1:
        raise DatasetError(
            f"{dataset.root}: class folders are named by numbers of unequal length: {', '.join(numbers[:4])}, ...; "
            "sorted as text they are not in the order of the numbers, so labels would be wrong. Pad the names with "
            "zeros to equal length, or write a list file"
        )
    if num_classes is not None and len(class_names) != num_classes:
        raise DatasetError(
            f"{dataset.root}: {len(class_names):,} class folders; expected {num_classes:,}. The k-th folder counts "
            "as class k, so unless each has one, labels would be wrong; write a list file for a subset of the classes"
        )
    if dataset.empty:
        raise_problems(dataset.root, _empty_folders(dataset.empty))
