"""A folder of pictures with boxes to an ordered, checked data set, in whatever layout it lies (`boxed_layout`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from mobilenext.data.annotations import Annotation, Annotations, BoxedLayout
from mobilenext.data.boxed_check import BoxCheck
from mobilenext.data.boxed_classes import category_ids
from mobilenext.data.boxed_layout import find_boxed_layout, listed_layout, parts_named, read_parts
from mobilenext.data.boxes import BoxedDataset
from mobilenext.data.class_names import match_names
from mobilenext.data.images import PathLike
from mobilenext.data.problems import raise_problems
from mobilenext.data.voc import VOC_CLASSES
from mobilenext.errors import UsageError


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
    layout, list_file = _layout(Path(root), list_file, split)
    if list_file is not None and layout.whole is not None:
        annotations, notes = layout.whole(), list[str]()
    else:
        annotations, notes = read_parts(Path(root), layout, split)
    notes = [*layout.notes, *notes]
    dataset, problems, hint = _assembled(Path(root), layout, list_file, annotations, class_names, notes)
    if problems:
        raise_problems(Path(root), problems, hint)
    return dataset


@dataclass(frozen=True)
class Examined:
    """All pictures of a data set, each once."""

    dataset: BoxedDataset  # with the boxes that are in order
    problems: tuple[str, ...]  # for which `open_boxes` refuses a part or the whole
    parts: Mapping[str, frozenset[Path]]  # the pictures of each part; empty: the data set has no parts


def examine_boxes(root: PathLike, *, list_file: PathLike | None = None, split: str | None = None) -> Examined:
    """Read and check all parts, or those that `split` names, and return the problems instead of raising them.

    Raises:
        DatasetError: no layout that is understood, or no such part. UsageError: as `open_boxes`.
    """
    root = Path(root)
    layout, list_file = _layout(root, list_file, split)
    names = list(layout.parts) if split is None else parts_named(root, layout, split)
    read = {name: layout.parts[name]() for name in names}
    everything = [*read.values()]
    if split is None and layout.whole is not None:
        everything.append(layout.whole())
    whole = Annotations(categories=everything[0].categories)
    items: dict[Path, Annotation] = {}
    for part in everything:
        for item in part.items:
            items.setdefault(item.path, item)
        whole.problems += part.problems
        whole.notes += part.notes
        if whole.categories is not None and part.categories is not None and whole.categories != part.categories:
            whole.problems.append("the parts have different categories")
    whole.items = list(items.values())
    whole.problems, whole.notes = (list(dict.fromkeys(sentences)) for sentences in (whole.problems, whole.notes))
    dataset, problems, _ = _assembled(root, layout, list_file, whole, None, layout.notes)
    parts = {name: frozenset(item.path for item in part.items) for name, part in read.items()}
    return Examined(dataset, tuple(problems), parts)


def _layout(root: Path, list_file: PathLike | None, split: str | None) -> tuple[BoxedLayout, Path | None]:
    if list_file is None:
        return find_boxed_layout(root), None
    if split is not None:
        raise UsageError(f"a list and the split {split} at once; choose one of them")
    return listed_layout(root, Path(list_file)), Path(list_file)


def _assembled(
    root: Path,
    layout: BoxedLayout,
    list_file: Path | None,
    annotations: Annotations,
    class_names: Sequence[str] | None,
    notes: Sequence[str],
) -> tuple[BoxedDataset, list[str], str]:
    """Return the data set of what is in order, the problems, and what the reader of them should know."""
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
    hint = f"\nThe classes: {', '.join(names[:50])}" if label_of.keys() != names_of.keys() else ""
    categories = None if annotations.categories is None else tuple(annotations.categories.values())
    label_of_own = {own.index(name) + 1: place + 1 for name, place in matches.class_of.items()}
    dataset = BoxedDataset(
        root, layout.name, list_file, records, names, len(records), (),
        (*notes, *annotations.notes, *matches.notes), category_ids=category_ids(categories, len(names), label_of_own),
        left_out=tuple(check.left_out), overhanging=tuple(check.overhanging),
    )  # fmt: skip
    return dataset, problems, hint


def _class_names(annotations: Annotations, used: AbstractSet[str]) -> tuple[str, ...]:
    """Return the names of the classes: COCO's in the order of their numbers, others in their order as strings.

    Where most of Pascal VOC's classes occur and no others, all of its classes are taken: a part may lack one.
    """
    if annotations.categories is not None:
        return tuple(annotations.categories)
    if used <= set(VOC_CLASSES) and len(used) >= len(VOC_CLASSES) / 2:
        return VOC_CLASSES
    return tuple(sorted(used))
