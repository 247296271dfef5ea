"""A folder of labelled images to an ordered, checked tuple of records.

Layouts, tried in this order:

    a list file given by the caller                     "list"
    ROOT/val_list.txt                                   "list"
    ROOT/val/<class>/**                                 "class-folders"
    ROOT/<class>/**, with two classes or more           "class-folders"
    ROOT/test/<class>/**, where there is no validation  "class-folders"
    ROOT/val.txt, ROOT/valid.csv, ...                   "list"

``val`` and ``test`` stand for all words that `mobilenext.data.parts` knows, in any case; a download may wrap a single
folder, or several in each other, around the layout. How a list is read is told in `mobilenext.data.list_file`.

Class folders get the labels 0, 1, 2, ... in the order of their names as strings (for ImageNet's n######## names, the
order everybody uses), in the Unicode form NFC. Images are taken at any depth; which files are images, and what is left
out and counted in `Dataset.ignored`, is told in `mobilenext.data.listing`.

Nothing else is left out: whatever does not fit is collected over the whole data set and raised as one `DatasetError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from mobilenext.data.class_folders import check_class_folders, open_class_folders
from mobilenext.data.images import PathLike
from mobilenext.data.layouts import LIST_NAME, TRAIN_LIST, refuse_layout
from mobilenext.data.list_file import read_list
from mobilenext.data.listing import holds_images, refusals, visible_folders
from mobilenext.data.parts import PARTS, find_layout, find_list, part_of
from mobilenext.data.records import LabelledDataset, LabelledImage
from mobilenext.errors import DatasetError, UsageError
from mobilenext.file_kinds import other_kind
from mobilenext.machine.collection import paused_collection


def open_dataset(
    root: PathLike,
    *,
    list_file: PathLike | None = None,
    num_classes: int | None = None,
    limit: int | None = None,
    split: str | None = None,
    check_classes: bool = True,
    one_class: bool = False,
) -> LabelledDataset:
    """Find the layout of `root`, check all of it, and keep the first `limit` records.

    With `num_classes`, labels must be below it, and there must be as many class folders. `split` names the part to
    open, ``test`` for one; without it that is the validation part, or the whole where there are no parts. Without
    `check_classes`, the number of class folders and empty ones are left to `mobilenext.data.class_names`, which knows
    the names of the classes. With `one_class`, a single folder of images is a class, too, which its name tells.

    Raises:
        DatasetError: no layout that is understood, or the problems found in it: the first 20 and their number.
        UsageError: `limit` or `num_classes` below 1, or a list and a split at once.
    """
    _check_positive(limit=limit, num_classes=num_classes)
    if list_file is not None and split is not None:
        raise UsageError(f"a list and the split {split} at once; choose one of them")
    root = _existing(root)
    if split is not None:
        dataset = _open_split(root, split, num_classes)
    elif list_file is None and not (root / LIST_NAME).exists():
        dataset = _open_folders(root, num_classes, one_class)
    else:
        dataset = _open_list(root, Path(list_file) if list_file is not None else root / LIST_NAME, num_classes)
    if check_classes:
        check_class_folders(dataset, num_classes)
    return dataset.first(limit)


def open_training(
    root: PathLike, *, list_file: PathLike | None = None, num_classes: int | None = None, whole: bool = False
) -> LabelledDataset:
    """Open the training part: of a list, ``train_list.txt``, class folders in ``train/``, or a list as ``train.csv``.

    With `whole`, class folders in `root` itself are the training part where there are no parts. Class folders are not
    checked: see `mobilenext.data.class_names`.

    Raises:
        DatasetError: as `open_dataset`, or no training part.
    """
    _check_positive(num_classes=num_classes)
    root = _existing(root)
    if list_file is None and (root / TRAIN_LIST).exists():
        list_file = root / TRAIN_LIST
    if list_file is not None:
        return _open_list(root, Path(list_file), num_classes, repeats=True)
    layout = find_layout(root)
    folder = layout.parts.get("train")
    if folder is not None:
        return _with_notes(open_class_folders(folder, folder), layout.notes)
    if (path := find_list(root, "train")) is not None:
        return _with_notes(_open_list(root, path, num_classes, repeats=True), (_taken(root, path, "training"),))
    if whole and layout.classes:
        return _with_notes(open_class_folders(root, layout.folder), layout.notes)
    raise DatasetError(
        f"{root}: no training part; expected {TRAIN_LIST} or a folder train/ with one folder for each class, or "
        "--train-list FILE"
        + ("; the folders there are classes: --val-split 0.2 divides them" if layout.classes else "")
    )


def open_validation(
    root: PathLike, *, list_file: PathLike | None = None, num_classes: int | None = None, split: str | None = None
) -> LabelledDataset:
    """Open the part that a training run is validated on: as `open_dataset`, but never the test part unasked.

    Class folders are not checked: see `mobilenext.data.class_names`.

    Raises:
        DatasetError: as `open_dataset`, or no validation part.
    """
    root = _existing(root)
    if list_file is None and split is None and not (root / LIST_NAME).exists():
        parts = find_layout(root).parts
        if "test" in parts and "val" not in parts:
            raise DatasetError(
                f"{root}: a training part and a test part, {parts['test'].name}/, but no validation part; "
                "--val-split 0.2 divides the training images, --val-split test validates on the test part"
            )
    return open_dataset(root, list_file=list_file, num_classes=num_classes, split=split, check_classes=False)


def validation_place(root: Path) -> Path | None:
    """Return the list or the folder of the validation part in `root`, where there is one."""
    return find_list(root, "val") or find_layout(root).parts.get("val")


def class_name_of(dataset: LabelledDataset, label: int) -> str:
    """Return the name of a class, or its number where it has none."""
    return dataset.class_names[label] if dataset.class_names else str(label)


def _check_positive(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected 1 or more")


def _existing(root: PathLike) -> Path:
    root = Path(root)
    if not root.is_dir():
        problem = other_kind(root) or ("this is a file" if root.exists() else "no such folder")
        raise DatasetError(f"{root}: {problem}; expected a folder")
    return root


def _open_split(root: Path, split: str, num_classes: int | None) -> LabelledDataset:
    """Open the part that `split` names, by a word for it or by the name of its folder or list."""
    part = part_of(split)
    if part == "train":
        return open_training(root, num_classes=num_classes)
    layout = find_layout(root)
    list_file = find_list(root, part or split)
    folder = layout.parts.get(part or "")
    if folder is None and part is None and split in visible_folders(root):
        folder = root / split
    if list_file is not None and (folder is None or list_file.name == f"{part}_list.txt"):
        return _with_notes(_open_list(root, list_file, num_classes), (f"{list_file.name} is taken",))
    if folder is not None:
        return _with_notes(open_class_folders(root, folder), layout.notes)
    lists = [name for name in PARTS if find_list(root, name)]
    there = [f"{path.relative_to(root).as_posix()}/" for path in layout.parts.values()] + lists
    raise DatasetError(f"{root}: no part {split}; found {', '.join(there) or 'no parts: no train/, val/ or test/'}")


def _open_folders(root: Path, num_classes: int | None, one_class: bool) -> LabelledDataset:
    """Open the validation part, the test part if there is none, or the whole."""
    layout = find_layout(root)
    part = next((part for part in ("val", "test") if part in layout.parts), None)
    if part is not None:
        folder = layout.parts[part]
        notes = list(layout.notes)
        name = folder.relative_to(root).as_posix()
        if part == "test":
            notes.append(f"there is no validation part: the test part, {name}/, is taken")
        elif folder.name != part:
            notes.append(f"the validation part is {name}/")
        return _with_notes(open_class_folders(root, folder), notes)
    if layout.classes:
        return _with_notes(open_class_folders(root, layout.folder), layout.notes)
    if (list_file := find_list(root, "val")) is not None:
        return _with_notes(_open_list(root, list_file, num_classes), (_taken(root, list_file, "validation"),))
    if one_class and len(names := visible_folders(root)) == 1 and holds_images(root / names[0], deep=False):
        return _with_notes(open_class_folders(root, root), (f"{names[0]}/ is the only class folder",))
    problem = None
    if "train" in layout.parts:
        name = layout.parts["train"].relative_to(root).as_posix()
        problem = (
            f"no validation or test part, only the training part {name}/; "
            "--split train takes that, and in training --val-split 0.2 divides it."
        )
    return refuse_layout(root, problem)


def _taken(root: Path, list_file: Path, part: str) -> str:
    return f"the list of the {part} part is {list_file.relative_to(root).as_posix()}"


def _with_notes(dataset: LabelledDataset, notes: Iterable[str]) -> LabelledDataset:
    return dataclasses.replace(dataset, notes=(*notes, *dataset.notes))


def _open_list(root: Path, list_file: Path, num_classes: int | None, *, repeats: bool = False) -> LabelledDataset:
    with paused_collection():  # among a million new records, all in use, it takes a fifth of the time
        listed = read_list(root, list_file, num_classes, repeats=repeats)
        records = [LabelledImage(index, *image) for index, image in enumerate(listed.images)]
    return LabelledDataset(
        root, "list", list_file, tuple(records), listed.class_names, len(records), (), listed.notes,
        unreadable=refusals(record.file for record in records),
    )  # fmt: skip
