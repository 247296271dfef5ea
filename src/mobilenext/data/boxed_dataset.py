"""A folder of pictures with boxes to an ordered, checked data set, in whatever layout it lies.

Layouts, tried in this order: a list or a file of COCO's that the caller names, Pascal VOC's (`mobilenext.data.voc`),
COCO's (`mobilenext.data.coco`), lists that are called as parts (`mobilenext.data.box_list`). A download may wrap a
single folder, or several in each other, around the layout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from mobilenext.data.annotations import Annotations, BoxedLayout
from mobilenext.data.box_list import find_box_lists, read_box_list
from mobilenext.data.boxed_check import BoxCheck
from mobilenext.data.boxed_classes import category_ids
from mobilenext.data.boxes import BoxedDataset
from mobilenext.data.class_names import match_names
from mobilenext.data.coco import find_coco, read_coco
from mobilenext.data.images import PathLike
from mobilenext.data.listing import visible_folders
from mobilenext.data.parts import part_of
from mobilenext.data.problems import raise_problems
from mobilenext.data.voc import VOC_CLASSES, find_voc
from mobilenext.errors import DatasetError, UsageError, nearest
from mobilenext.file_kinds import other_kind

_DEEPEST = 4  # single folders that a download may be wrapped in
_FINDERS: tuple[Callable[[Path, Path], BoxedLayout | None], ...] = (find_voc, find_coco, find_box_lists)


def open_boxes(
    root: PathLike,
    *,
    list_file: PathLike | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> BoxedDataset:
    """Find the layout of `root`, and read and check all of it.

    Args:
        root: the folder of the data set.
        list_file: a list of boxes, or a JSON file of COCO's annotations, in place of the layout.
        split: the name of a part, or several by commas, as ``2007-trainval,2012-trainval``; None: the test part, else
            the validation part, else the whole, which a note says.
        class_names: of the labels 1, 2, 3, ..., which those of the data are found among as class folders are
            (`mobilenext.data.class_names`); None: those of the data.

    Raises:
        DatasetError: no layout that is understood, no such part, or the problems of the data: the first 20 and their
            number. UsageError: a list and a split at once.
    """
    if list_file is not None and split is not None:
        raise UsageError(f"a list and the split {split} at once; choose one of them")
    root = Path(root)
    if list_file is not None:
        return _open_list(root, Path(list_file), class_names)
    layout = find_boxed_layout(root)
    annotations, notes = _read(root, layout, split)
    return _checked(root, layout, annotations, class_names, notes)


def _open_list(root: Path, list_file: Path, class_names: Sequence[str] | None) -> BoxedDataset:
    _require_folder(root)
    if list_file.suffix.lower() == ".json":
        layout, annotations = BoxedLayout("coco", {}), read_coco(root, root, list_file, _part_in(list_file))
    else:
        layout, annotations = BoxedLayout("box-list", {}), read_box_list(root, list_file)
    return dataclasses.replace(_checked(root, layout, annotations, class_names, []), list_file=list_file)


def _part_in(list_file: Path) -> str:
    """Return the part that the name of a file of COCO's ends with, as val2017."""
    return list_file.stem.rpartition("_")[2]


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        problem = other_kind(root) or ("this is a file" if root.exists() else "no such folder")
        raise DatasetError(f"{root}: {problem}; expected a folder")


def find_boxed_layout(root: Path) -> BoxedLayout:
    """Return the layout of the data set; its names are relative to `root`, in which a download may have wrapped it.

    Raises:
        DatasetError: no folder, or no layout that is understood.
    """
    _require_folder(root)
    folder = root
    for _ in range(_DEEPEST):
        for find in _FINDERS:
            if layout := find(root, folder):
                return layout
        inner = visible_folders(folder)
        if len(inner) != 1:
            break
        folder /= inner[0]
    raise DatasetError(
        f"{root}: no annotations of boxes; expected Annotations/*.xml beside JPEGImages/ (Pascal VOC, or a devkit with "
        "VOC2007/), annotations/instances_*.json (COCO), or a list of boxes that is named explicitly"
    )


def parts_named(root: Path, layout: BoxedLayout, split: str) -> list[str]:
    """Return the parts that the names in `split`, by commas, stand for.

    Raises:
        DatasetError: no such part, or a word that several parts go by.
    """
    names = [name.strip() for name in split.split(",")]
    return list(dict.fromkeys(_part_named(root, layout, name) for name in names))


def _part_named(root: Path, layout: BoxedLayout, name: str) -> str:
    there = ", ".join(layout.parts) or "no parts"
    if name in layout.parts:
        return name
    part = part_of(name)
    candidates = [known for known in layout.parts if known.lower() == name.lower()]
    candidates = candidates or [known for known in layout.parts if part and part_of(known) == part]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DatasetError(f"{root}: {name} may be each of {', '.join(candidates)}; name one, or several by commas")
    raise DatasetError(f"{root}: no part {name!r}{nearest(name, layout.parts)}; found {there}")


def _read(root: Path, layout: BoxedLayout, split: str | None) -> tuple[Annotations, list[str]]:
    """Return the annotations of the parts that `split` names, or of those that are evaluated without it, and notes."""
    if split is not None:
        names = parts_named(root, layout, split)
        return _joined([layout.parts[name]() for name in names], names), []
    for part in ("test", "val"):
        if any(part_of(name) == part for name in layout.parts):
            name = _part_named(root, layout, part)
            return layout.parts[name](), [f"the part {name} is taken"]
    if layout.whole is not None:
        return layout.whole(), ["all pictures are taken: there is no test or validation part"]
    names = list(layout.parts)
    return _joined([read() for read in layout.parts.values()], names), [f"the parts {', '.join(names)} are taken"]


def _joined(parts: Sequence[Annotations], names: Sequence[str]) -> Annotations:
    """Return the annotations of several parts as one; a picture must not be in two of them."""
    whole = Annotations(categories=parts[0].categories)
    part_of_picture: dict[Path, str] = {}
    for name, part in zip(names, parts, strict=True):
        whole.items += part.items
        whole.problems += part.problems
        whole.notes += part.notes
        if part.categories != whole.categories:
            whole.problems.append(f"{name}: its categories are not those of {names[0]}")
        both = [item for item in part.items if part_of_picture.setdefault(item.path, name) != name]
        if both:
            whole.problems.append(
                f"{len(both):,} pictures of {name} are in {part_of_picture[both[0].path]}, too, such as {both[0].name}"
            )
    return whole


def _checked(
    root: Path, layout: BoxedLayout, annotations: Annotations, class_names: Sequence[str] | None, notes: Sequence[str]
) -> BoxedDataset:
    names_of = {  # by the name as it is written
        name: name.lower() if layout.lower_case else name
        for name in (box.name for item in annotations.items for box in item.objects)
    }
    own = _class_names(annotations, set(names_of.values()))
    names = own if class_names is None else tuple(class_names)
    matches = match_names(own, names)
    label_of = {
        name: matches.class_of[own_name] + 1 for name, own_name in names_of.items() if own_name in matches.class_of
    }
    check = BoxCheck(names, label_of)
    records = check.records(annotations.items)
    problems = [*annotations.problems, *check.problems]
    if not records and not problems:
        problems.append("no pictures with annotations")
    if problems:
        missed = label_of.keys() != names_of.keys()
        raise_problems(root, problems, f"\nThe classes: {', '.join(names[:50])}" if missed else "")
    categories = None if annotations.categories is None else tuple(annotations.categories.values())
    label_of_own = {own.index(name) + 1: place + 1 for name, place in matches.class_of.items()}
    return BoxedDataset(
        root, layout.name, None, records, names, len(records), (),
        (*notes, *annotations.notes, *matches.notes), category_ids=category_ids(categories, len(names), label_of_own),
        left_out=tuple(check.left_out), overhanging=tuple(check.overhanging),
    )  # fmt: skip


def _class_names(annotations: Annotations, used: AbstractSet[str]) -> tuple[str, ...]:
    """Return the names of the classes: COCO's in the order of their numbers, others in their order as strings.

    Where most of Pascal VOC's classes occur and no others, all of its classes are taken: a part may lack one.
    """
    if annotations.categories is not None:
        return tuple(annotations.categories)
    if used <= set(VOC_CLASSES) and len(used) >= len(VOC_CLASSES) / 2:
        return VOC_CLASSES
    return tuple(sorted(used))
