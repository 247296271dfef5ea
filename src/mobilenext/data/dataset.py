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
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from mobilenext.data.images import PathLike
from mobilenext.data.list_file import PROBLEMS_SHOWN, alike_notes, raise_problems, read_list
from mobilenext.data.listing import (
    holds_images,
    ignored_notes,
    is_leftover_name,
    list_folder,
    refusals,
    visible_folders,
)  # fmt: skip
from mobilenext.data.parts import IMAGES_FOLDER, PARTS, find_layout, find_list, is_filler, part_of
from mobilenext.errors import DatasetError, ImageError, UsageError
from mobilenext.file_kinds import other_kind

LIST_NAME, TRAIN_LIST = "val_list.txt", "train_list.txt"

LAYOUTS = f"""Layouts that are understood:
    ROOT/{LIST_NAME}               each line an image's name and its label, as in: val_1.JPEG 65
    ROOT/{IMAGES_FOLDER}/val_1.JPEG            names are looked up in ROOT/{IMAGES_FOLDER}, then in ROOT
or
    ROOT/val/n01440764/val_1.JPEG   a folder for each class; sorted by name they are classes 0, 1, 2, ...
or
    ROOT/n01440764/val_1.JPEG       the same without val
or any folder of images together with a list file that is named explicitly."""


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
    class_names: tuple[str, ...] | None  # of folders, or of a list that has them, by label; None for other lists
    total: int  # records before `limit`
    ignored: tuple[str, ...]  # files that are no images and what systems leave beside data, relative to the root
    notes: tuple[str, ...] = ()  # how the layout was understood, where that is not plain
    unreadable: Mapping[Path, str] = field(default_factory=dict)  # images of formats that are not read: what to do
    empty: tuple[str, ...] = ()  # class folders without images

    def __len__(self) -> int:
        return len(self.records)

    def all_notes(self) -> list[str]:
        """How the layout was understood and what was ignored, in sentences."""
        leftovers = {name for name in self.ignored if is_leftover_name(Path(name).name)}
        return [*self.notes, *ignored_notes(leftovers, [name for name in self.ignored if name not in leftovers])]

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
    split: str | None = None,
    check_classes: bool = True,
    one_class: bool = False,
) -> Dataset:
    """Find the layout of `root`, check all of it, and keep the first `limit` records.

    With `num_classes`, labels must be below it, and class folders must be exactly so many. `split` names the part to
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
    if limit is None:
        return dataset
    records = dataset.records[:limit]
    unreadable = {r.path: dataset.unreadable[r.path] for r in records if r.path in dataset.unreadable}
    return dataclasses.replace(dataset, records=records, unreadable=unreadable)


def open_training(
    root: PathLike, *, list_file: PathLike | None = None, num_classes: int | None = None, whole: bool = False
) -> Dataset:
    """The training part: of a list, ``train_list.txt``, class folders in ``train/``, or a list as ``train.csv``.

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
        return _with_notes(_open_class_folders(folder, folder), layout.notes)
    if (found := find_list(root, "train")) is not None:
        return _with_notes(_open_list(root, found, num_classes, repeats=True), (_taken(root, found, "training"),))
    if whole and layout.classes:
        return _with_notes(_open_class_folders(root, layout.folder), layout.notes)
    raise DatasetError(
        f"{root}: no training part; expected {TRAIN_LIST} or a folder train/ with one folder for each class, or "
        "--train-list FILE"
        + ("; the folders there are classes: --val-split 0.2 divides them" if layout.classes else "")
    )


def open_validation(
    root: PathLike, *, list_file: PathLike | None = None, num_classes: int | None = None, split: str | None = None
) -> Dataset:
    """The part that a training run is validated on: as `open_dataset`, but never the test part unasked.

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
    """The list or the folder of the validation part in `root`, where there is one."""
    return find_list(root, "val") or find_layout(root).parts.get("val")


def class_name_of(dataset: Dataset, label: int) -> str:
    """The name of a class, or its number where it has none."""
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


def _open_split(root: Path, split: str, num_classes: int | None) -> Dataset:
    """The part that `split` names, by a word for it or by the name of its folder or list."""
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
        return _with_notes(_open_class_folders(root, folder), layout.notes)
    lists = [name for name in PARTS if find_list(root, name)]
    there = [f"{path.relative_to(root).as_posix()}/" for path in layout.parts.values()] + lists
    raise DatasetError(f"{root}: no part {split}; found {', '.join(there) or 'no parts: no train/, val/ or test/'}")


def _open_folders(root: Path, num_classes: int | None, one_class: bool) -> Dataset:
    """The validation part, the test part where there is none, or the whole."""
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
        return _with_notes(_open_class_folders(root, folder), notes)
    if layout.classes:
        return _with_notes(_open_class_folders(root, layout.folder), layout.notes)
    if (list_file := find_list(root, "val")) is not None:
        return _with_notes(_open_list(root, list_file, num_classes), (_taken(root, list_file, "validation"),))
    if one_class and len(names := visible_folders(root)) == 1 and holds_images(root / names[0], deep=False):
        return _with_notes(_open_class_folders(root, root), (f"{names[0]}/ is the only class folder",))
    problem = None
    if "train" in layout.parts:
        name = layout.parts["train"].relative_to(root).as_posix()
        problem = (
            f"no validation or test part, only the training part {name}/; "
            "--split train takes that, and in training --val-split 0.2 divides it."
        )
    return _refuse_layout(root, problem)


def _taken(root: Path, list_file: Path, part: str) -> str:
    return f"the list of the {part} part is {list_file.relative_to(root).as_posix()}"


def _with_notes(dataset: Dataset, notes: Iterable[str]) -> Dataset:
    return dataclasses.replace(dataset, notes=(*notes, *dataset.notes))


def _open_list(root: Path, list_file: Path, num_classes: int | None, *, repeats: bool = False) -> Dataset:
    listed = read_list(root, list_file, num_classes, repeats=repeats)
    records = [Record(index, *line) for index, line in enumerate(listed.images)]
    return Dataset(
        root, "list", list_file, tuple(records), listed.class_names, len(records), (), listed.notes,
        unreadable=refusals(record.path for record in records),
    )  # fmt: skip


def unreadable_text(problems: Sequence[str], *, complete: bool = True) -> str:
    """The first 20 images that cannot be read and their number; `complete` says that `problems` are all of them."""
    number = f"{len(problems):,}{'' if complete else ' or more'}"
    shown = [*problems[:PROBLEMS_SHOWN], *(["..."] if len(problems) > PROBLEMS_SHOWN or not complete else [])]
    return f"{number} image{'s' if number != '1' else ''} cannot be read:\n    " + "\n    ".join(shown)


def raise_unreadable(problems: Sequence[str], way_out: str, *, complete: bool = True) -> NoReturn:
    """One `ImageError` of images that cannot be read, and the two ways out; the arguments as of `unreadable_text`."""
    raise ImageError(
        f"{unreadable_text(problems, complete=complete)}\n"
        f"Repair them or take them out (mobilenext check-data names all of them), or {way_out}"
    )


def _open_class_folders(root: Path, folder: Path) -> Dataset:
    """The class folders in `folder`; names are relative to `root`."""
    listing = list_folder(folder)
    if not listing.images:
        _refuse_layout(root)
    folder_of = _class_folders(folder)
    class_names = sorted(folder_of)
    label_of = {folder_of[name]: label for label, name in enumerate(class_names)}
    records: list[Record] = []
    problems: list[str] = []
    for path in listing.images:
        name = path.relative_to(root).as_posix()
        label = label_of.get(path.relative_to(folder).parts[0])
        if label is None:
            problems.append(f"{name}: an image outside the class folders, so without a class")
        else:
            records.append(Record(len(records), path, name, label))
    problems += [
        f"{path.relative_to(root).as_posix()}: a link to {path.readlink()}, which is not there"
        for path in listing.others
        if path.parent == folder and not path.suffix and path.is_symlink() and not path.exists()
    ]
    used = {record.label for record in records}
    if len(used) == 1 and not problems and is_filler(only := class_names[next(iter(used))]):
        _refuse_layout(root, f"{folder / only} holds all images ({len(records):,}), and nothing gives them labels.")
    empty = tuple(name for label, name in enumerate(class_names) if label not in used)
    if problems:
        raise_problems(folder, problems + _empty_folders(empty))
    ignored = tuple(path.relative_to(root).as_posix() for path in (*listing.leftovers, *listing.others))
    return Dataset(
        root, "class-folders", None, tuple(records), tuple(class_names), len(records), ignored,
        notes=tuple(alike_notes(class_names)), unreadable=listing.unreadable, empty=empty,
    )  # fmt: skip


def _class_folders(folder: Path) -> dict[str, str]:
    """Folder by class: its name in the Unicode form NFC, which is the same whatever system has written it."""
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


def check_class_folders(dataset: Dataset, num_classes: int | None) -> None:
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


def _refuse_layout(root: Path, problem: str | None = None) -> NoReturn:
    raise DatasetError(f"{root}: {problem or _what_was_found(root)}\n{LAYOUTS}")


def _what_was_found(root: Path) -> str:
    if problem := other_kind(root, "data", "images"):
        return f"{problem}."
    subfolders = visible_folders(root)
    if nested_lists := [root / name / LIST_NAME for name in subfolders if (root / name / LIST_NAME).exists()]:
        return f"{nested_lists[0]} exists: did you mean {nested_lists[0].parent}?"
    parent = root.resolve().parent
    if (parent / LIST_NAME).is_file():
        return f"{parent / LIST_NAME} exists: did you mean {parent}?"
    if (root / IMAGES_FOLDER).is_dir():
        return f"there is a folder {IMAGES_FOLDER} but no list; expected {root / LIST_NAME}."
    listing = list_folder(root)
    if not listing.images:
        return "no images in this folder." if listing.others or subfolders else "this folder is empty."
    folders = {image.parent for image in listing.images}
    if len(folders) == 1:
        return f"{folders.pop()} holds all images ({len(listing.images):,}), and nothing gives them labels."
    return f"no {LIST_NAME}, and no class folders in val; found the folders {', '.join(subfolders)}."
