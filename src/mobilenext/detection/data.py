"""The data of a detection: two parts of pictures with boxes, and the classes that both have."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.data.annotations import BoxedLayout
from mobilenext.data.boxed_classes import with_box_classes
from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.data.boxed_layout import find_boxed_layout, parts_named
from mobilenext.data.boxes import BoxedDataset, BoxedImage
from mobilenext.data.class_names import match_names
from mobilenext.data.division import (
    draw_files,
    list_content,
    list_lines,
    share_of,
    split_records,
    warn_of_shared_images,
)
from mobilenext.data.labels import labels_of
from mobilenext.data.layouts import LIST_NAME as VAL_LIST
from mobilenext.data.layouts import TRAIN_LIST
from mobilenext.data.parts import part_of
from mobilenext.data.problems import raise_problems
from mobilenext.errors import DatasetError, UsageError
from mobilenext.job import DataOptions, DataRequest, Parts

log = logging.getLogger(__name__)

# The parts that are trained on and tested in the literature, in a devkit that has them.
_DEVKIT_TRAIN, _DEVKIT_VAL = ("2007-trainval", "2012-trainval"), "2007-test"
_SHOWN = 10


def open_parts(request: DataRequest) -> Parts:
    """Open the data of a new run, and decide which classes its network has.

    The classes are those of `labels`, else those of the training part; where first weights of a detector have the same
    names, they keep their order.

    Raises:
        UsageError, DatasetError: what does not fit together, or cannot be read.
    """
    options = request.options
    if options.get("train_split") is not None and options.get("train_list") is not None:
        raise UsageError("train_split and train_list at once; choose one of them")
    if options.get("val_split") is not None and options.get("val_list") is not None:
        raise UsageError("val_split and val_list at once; choose one of them")
    names = named_parts(request.root, options)
    share = share_of(names["val_split"])
    labels = labels_of(options.get("labels"))
    training = open_boxes(
        request.root, list_file=options.get("train_list"), split=names["train_split"], class_names=labels
    )
    if labels is None and (known := _names_of_weights(request, training)):
        training = with_box_classes(training, len(known), known, owner="the weights")
    classes = training.class_names or ()
    num_classes = options.get("num_classes")
    if num_classes is not None and num_classes != len(classes):
        raise UsageError(
            f"num_classes is {num_classes}, but the data have {len(classes)} classes: {', '.join(classes[:_SHOWN])}"
            f"{', ...' * (len(classes) > _SHOWN)}; --labels FILE names the classes and their order"
        )
    if share is not None:
        training, validation = _divide(training, request.root, share, request.seed)
    else:
        validation = _open_validation(request.root, options, names["val_split"], classes)
    _require_boxes(training)
    stored_parts: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
    if share is not None:
        stored_parts["val_split"] = share
    return Parts(
        training,
        validation,
        stored={"num_classes": len(classes), "labels": list(classes)},
        data=stored_parts,
        warnings=_warnings(training, validation),
        lists={} if share is None else {
            name: list_content([record.name for record in dataset.records])
            for name, dataset in ((TRAIN_LIST, training), (VAL_LIST, validation))
        },
    )  # fmt: skip


def reopen_parts(config: Mapping[str, Any], request: DataRequest, folder: Path) -> Parts:
    """Open the data of a run that goes on, from its ``run.json``.

    Raises:
        UsageError: fields of ``run.json`` that do not fit each other.
        DataError, DatasetError: what cannot be read.
    """
    options, labels = request.options, config["labels"] or ()
    if len(labels) != config["num_classes"]:
        raise UsageError(f"{len(labels)} labels for {config['num_classes']} classes")
    training = open_boxes(
        request.root, list_file=options.get("train_list"), split=options.get("train_split"), class_names=labels
    )
    if share_of(options.get("val_split")) is not None:
        lists = [list_lines(folder / name) for name in (TRAIN_LIST, VAL_LIST)]
        training, validation = (_listed(training, folder, names) for names in lists)
        validation = _without_remarks(validation)
    else:
        validation = _open_validation(request.root, options, options.get("val_split"), labels)
    stored = {"num_classes": len(labels), "labels": list(labels)}
    return Parts(training, validation, stored, warnings=_warnings(training, validation))


# Which parts.


def named_parts(root: Path, options: DataOptions) -> dict[str, str | None]:
    """Return the names of the two parts as they are stored; None where a list or the whole stands for a part.

    Raises:
        UsageError: one part for both. DatasetError: no such part, or nothing that tells which.
    """
    train, val = options.get("train_split"), options.get("val_split")
    val = None if val is None else str(val)
    if options.get("train_list") is not None and (options.get("val_list") is not None or share_of(val) is not None):
        return {"train_split": None, "val_split": val}
    layout = find_boxed_layout(root)
    trains = parts_named(root, layout, train) if train is not None else []
    if not trains and options.get("train_list") is None:
        trains = _training_parts(root, layout, val)
    if share_of(val) is not None or options.get("val_list") is not None:
        return {"train_split": ",".join(trains) or None, "val_split": val}
    vals = parts_named(root, layout, val) if val is not None else [_validation_part(root, layout)]
    if both := set(trains) & set(vals):
        raise UsageError(f"the part {', '.join(sorted(both))} cannot train and validate; name another one")
    return {"train_split": ",".join(trains) or None, "val_split": ",".join(vals)}


def _training_parts(root: Path, layout: BoxedLayout, val: str | None) -> list[str]:
    """Return the parts that train where none is named; [] for the whole of a data set without parts."""
    if layout.devkit and _DEVKIT_TRAIN[0] in layout.parts:
        names = [name for name in _DEVKIT_TRAIN if name in layout.parts]
        log.info("the parts %s train", ", ".join(names))
        return names
    for name in ("train", "trainval"):
        if name in layout.parts:
            return [name]
    names = [name for name in layout.parts if part_of(name) == "train"]
    if len(names) == 1:
        return names
    if names:
        raise DatasetError(f"{root}: {', '.join(names)} may train; name one by --train-split, or several by commas")
    if layout.parts:
        raise DatasetError(
            f"{root}: no training part among {', '.join(layout.parts)}; name one by --train-split, or several by commas"
        )
    if share_of(val) is None:
        sentences = ["the data set has no parts", *layout.notes, "--val-split 0.2 divides its pictures"]
        raise DatasetError(f"{root}: {'; '.join(sentences)}")
    return []


def _validation_part(root: Path, layout: BoxedLayout) -> str:
    """Return the part that validates where none is named: never a test part unasked, but that of VOC 2007."""
    if layout.devkit and _DEVKIT_TRAIN[0] in layout.parts and _DEVKIT_VAL in layout.parts:
        return _DEVKIT_VAL
    names = [name for name in layout.parts if part_of(name) == "val"]
    if len(names) == 1:
        return names[0]
    if names:
        raise DatasetError(f"{root}: {', '.join(names)} may validate; name one by --val-split")
    there = ", ".join(layout.parts) or "no parts"
    raise DatasetError(
        f"{root}: no validation part; found {there}. --val-split 0.2 divides the training pictures, --val-split NAME "
        "validates on another part"
    )


def _open_validation(root: Path, options: DataOptions, val_split: Any, classes: Sequence[str]) -> BoxedDataset:
    split = None if val_split is None else str(val_split)
    return open_boxes(root, list_file=options.get("val_list"), split=split, class_names=classes)


# Division.


def _divide(dataset: BoxedDataset, root: Path, share: float, seed: int) -> tuple[BoxedDataset, BoxedDataset]:
    """Draw `share` of the pictures for the validation: of those of each rarest class, and of those without objects."""
    pictures = Counter(label for record in dataset.records for label in _labels(record))
    files: dict[int, set[Path]] = defaultdict(set)
    for record in dataset.records:
        rarest = min(_labels(record), key=lambda label: (pictures[label], label), default=0)
        files[rarest].add(record.path)
    drawn = draw_files(files, share, seed)
    if not drawn:
        raise DatasetError(f"{root}: too few pictures to divide; name a validation part")
    training, validation = split_records(dataset, root, drawn)
    note = f"of {len(dataset):,} pictures, {len(validation):,} validate: {share:g}, drawn with seed {seed}"
    return dataclasses.replace(training, notes=(*dataset.notes, note)), _without_remarks(validation)


def _without_remarks(dataset: BoxedDataset) -> BoxedDataset:
    """Return the data set without the sentences that stand with the part that it was divided from."""
    return dataclasses.replace(dataset, left_out=(), overhanging=(), notes=())


def _listed(dataset: BoxedDataset, folder: Path, names: Sequence[str]) -> BoxedDataset:
    """Return the data set with the pictures of these names, in their order."""
    by_name = {record.name: record for record in dataset.records}
    if missing := [f"{name}: no such picture in the data any more" for name in names if name not in by_name]:
        raise_problems(folder, missing)
    return dataset.with_records([by_name[name] for name in names])


# Classes and warnings.


def _names_of_weights(request: DataRequest, training: BoxedDataset) -> tuple[str, ...] | None:
    """Return the names of the first weights' classes where they are those of the data, in whatever order."""
    known, names = getattr(request.first, "labels", None), training.class_names or ()
    if not known or len(known) != len(names) or len(match_names(names, known).class_of) < len(names):
        return None
    return tuple(known)


def _require_boxes(training: BoxedDataset) -> None:
    if not any(_labels(record) for record in training.records):
        raise DatasetError(
            f"{training.root}: none of the {len(training):,} training pictures has a box that can be trained on; "
            "expected objects that are neither difficult nor a crowd"
        )


def _labels(record: BoxedImage) -> set[int]:
    """Return the classes that a picture trains."""
    return {box.label for box in record.boxes if not (box.difficult or box.crowd)}


def _warnings(training: BoxedDataset, validation: BoxedDataset) -> tuple[str, ...]:
    warnings = []
    for part, dataset in (("training", training), ("validation", validation)):
        warnings += [f"the {part} part: {sentence}" for sentence in dataset.warnings()]
        present = {label for record in dataset.records for label in _labels(record)}
        missing = [name for label, name in enumerate(dataset.class_names or (), start=1) if label not in present]
        if missing:
            warnings.append(
                f"the {part} part: {len(missing)} of {len(dataset.class_names or ())} classes have no box: "
                f"{', '.join(missing[:_SHOWN])}{', ...' * (len(missing) > _SHOWN)}"
            )
    return (*warnings, *warn_of_shared_images(training, validation))
