"""The classes of boxes by their names: those of a data set become those of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from mobilenext.data.boxes import BoxedDataset
from mobilenext.data.class_names import match_names
from mobilenext.errors import DatasetError

_SHOWN = 30


def with_box_classes(
    dataset: BoxedDataset, num_classes: int, names: Sequence[str] | None, *, owner: str = "the network"
) -> BoxedDataset:
    """Return the data set with the labels 1, 2, 3, ... that its classes' names have among `names`.

    Names go together as those of class folders do (`mobilenext.data.class_names`). The data may lack classes. A class
    of the data without a box need not be among `names`.

    Args:
        dataset: with names of its classes.
        num_classes: of `owner`, without background.
        names: of them; None: the place decides, and the numbers must be equal.
        owner: whose classes they are, for messages.

    Raises:
        DatasetError: a class that is not among `names`, or another number of classes; both lists are shown.
    """
    known = dataset.class_names or ()
    if not names:
        if len(known) != num_classes:
            raise DatasetError(
                f"{dataset.root}: {len(known)} classes ({_shown(known)}), but {owner} has {num_classes} without names; "
                "expected the same number"
            )
        return dataset
    matches = match_names(known, names)
    used = {known[box.label - 1] for record in dataset.records for box in record.boxes}
    if unknown := [name for name in matches.unknown if name in used]:
        raise DatasetError(
            f"{dataset.root}: {_shown(unknown)}: none of the {len(names)} classes of {owner}. The data's classes: "
            f"{_shown(known)}. Those of {owner}: {_shown(names)}. Classes go by name: rename them in the data, or "
            "take weights that know them"
        )
    label_of = {known.index(name) + 1: place + 1 for name, place in matches.class_of.items()}
    records = tuple(
        dataclasses.replace(
            record, boxes=tuple(dataclasses.replace(box, label=label_of[box.label]) for box in record.boxes)
        )
        for record in dataset.records
    )
    return dataclasses.replace(
        dataset,
        records=records,
        class_names=tuple(names),
        category_ids=category_ids(dataset.category_ids, len(names), label_of),
        notes=(*dataset.notes, *matches.notes),
    )


def category_ids(
    numbers: Sequence[int] | None, num_classes: int, label_of: Mapping[int, int]
) -> tuple[int, ...] | None:
    """Return COCO's number of each class of a network; classes that the data lack get numbers that no class has.

    Args:
        numbers: of the data's classes; None stays None.
        num_classes: of the network.
        label_of: the network's label by the data's, both from 1.
    """
    if numbers is None:
        return None
    number_of = {label_of[label]: number for label, number in enumerate(numbers, start=1) if label in label_of}
    unused = max(numbers, default=0)
    ids = []
    for label in range(1, num_classes + 1):
        if label not in number_of:
            unused += 1
        ids.append(number_of.get(label, unused))
    return tuple(ids)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
