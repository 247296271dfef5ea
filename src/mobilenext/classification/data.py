"""The data of a classification: two parts of labeled images, the classes, and the classes of the first weights."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.classification.division import divide, lists_of, read_divided
from mobilenext.data import LabelledDataset
from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.class_names import classes_without_images, match_names, with_classes
from mobilenext.data.dataset import open_training, open_validation, validation_place
from mobilenext.data.division import share_of, warn_of_shared_images
from mobilenext.data.labels import labels_of
from mobilenext.errors import DatasetError, UsageError
from mobilenext.job import DataRequest, Parts

if TYPE_CHECKING:
    from mobilenext.weights.record import Weights

log = logging.getLogger(__name__)


def open_run(request: DataRequest, *, halves: bool = False) -> Parts:
    """Open the data of a new run, and decide which classes its network has.

    `halves` says that no part validates: a search divides the training images, and leaves out all others.

    Raises:
        UsageError, DatasetError: what does not fit together, or cannot be read.
    """
    options, first = request.options, request.first
    num_classes, val_split = options.get("num_classes"), options.get("val_split")
    if options.get("train_split") is not None:
        raise UsageError("train_split names parts of annotated data; list the training images with --train-list FILE")
    if val_split is not None and options.get("val_list") is not None:
        raise UsageError("val_split and val_list at once; choose one of them")
    labels = labels_of(options.get("labels"))
    parts = partial(
        open_parts, request.root, options.get("train_list"), options.get("val_list"), val_split=val_split,
        seed=request.seed, labels=labels,
    )  # fmt: skip
    training, validation = parts()
    classes = num_classes or _count_classes(training)
    rows = _classifier_rows(first, labels or training.class_names, classes) if first else None
    if num_classes is not None:  # labels must be below it
        training, validation = parts(num_classes)
    _check_classes(training, validation, classes, named=num_classes is not None)
    if first:
        if first.num_classes != classes and (num_classes is not None or not rows):
            rows = None  # create_model says that the classifier is fresh
        _describe_classifier(first, classes, rows)
    if labels is None:
        labels = training.class_names  # those of the first weights name other data's classes
    if labels is not None and len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} classes: expected one name for each class")
    share = share_of(val_split)
    if share is not None and (other := validation_place(request.root)):
        advice = (
            "a search divides the training images into two halves"
            if halves
            else ("val_split divides the training images; val_split=val validates on it")
        )
        log.info("%s is not used: %s", other, advice)
    return Parts(
        training,
        validation,
        stored={"num_classes": classes, "labels": list(labels) if labels else None},
        data={} if val_split is None else {"val_split": share or str(val_split)},
        first={} if rows is None else {"classes": list(rows)},
        warnings=_warnings(training, validation, classes, labels),
        lists={} if share is None else lists_of(training, validation),
    )


def reopen_run(config: Mapping[str, Any], request: DataRequest, folder: Path) -> Parts:
    """Open the data of a run that goes on, from its ``run.json``.

    Raises:
        UsageError: fields of ``run.json`` that do not fit each other.
        DataError, DatasetError: what cannot be read.
    """
    classes, labels = config["num_classes"], config["labels"]
    val_split = request.options.get("val_split")
    share = share_of(val_split)
    if labels and len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} classes")
    if share is not None:
        training, validation = read_divided(folder, request.root)
    else:
        training, validation = open_parts(
            request.root, request.options.get("train_list"), request.options.get("val_list"), classes,
            val_split=val_split, labels=labels,
        )  # fmt: skip
    stored = {"num_classes": classes, "labels": labels}
    return Parts(training, validation, stored, warnings=_warnings(training, validation, classes, labels))


def open_parts(
    root: Path,
    train_list: str | os.PathLike[str] | None,
    val_list: str | os.PathLike[str] | None,
    num_classes: int | None = None,
    *,
    val_split: str | float | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> tuple[LabelledDataset, LabelledDataset]:
    """Open the training and the validation part; a share as `val_split` draws the second from the first by `seed`.

    Names of classes in both go together; they belong to those of `labels` where these are the same names.

    Raises:
        DatasetError: a part that is missing or wrong, or a class of the validation that is not trained.
    """
    share = share_of(val_split)
    training = open_training(root, list_file=train_list, num_classes=num_classes, whole=share is not None)
    training = _with_labels(training, labels, num_classes)
    if share is not None:
        return divide(training, root, share, seed)
    name = None if val_split is None else str(val_split)
    validation = open_validation(root, list_file=val_list, num_classes=num_classes, split=name)
    if names := training.class_names:
        validation = with_classes(validation, len(names), names, owner="the training part")
    else:
        validation = _with_labels(validation, labels, num_classes)
    return training, validation


def _with_labels(dataset: LabelledDataset, labels: Sequence[str] | None, num_classes: int | None) -> LabelledDataset:
    """Number class folders by `labels` where those are their names, and by their place where they are other words."""
    if labels and dataset.class_names and match_names(dataset.class_names, labels).class_of:
        return with_classes(dataset, len(labels), labels, owner="the labels")
    check_class_folders(dataset, num_classes)
    return dataset


def _classifier_rows(first: Weights, names: Sequence[str] | None, classes: int) -> tuple[int, ...] | None:
    """Return the weights' classes that the data's classes are, by name; () for others; None where the place decides.

    The place decides where one side has no names, or all names are in the same order.
    """
    from mobilenext.weights.record import names_of_classes

    known, assumed = names_of_classes(first)
    if not names or not known or len(names) != classes:
        return None
    class_of = match_names(names, known).class_of
    if len(class_of) < len(names):
        return None if assumed else ()
    rows = tuple(class_of[name] for name in names)
    return None if rows == tuple(range(first.num_classes)) else rows


def _describe_classifier(first: Weights, classes: int, rows: tuple[int, ...] | None) -> None:
    file = first.path.name
    if rows:
        of = first.num_classes
        log.info("the classifier of %s is kept for the data's %d of its %d classes, by name", file, len(rows), of)
    elif rows is not None:
        log.warning("the classifier is fresh: %s has %d classes, too, but not all of the data's names", file, classes)
    elif first.num_classes == classes:
        log.info("the classifier of %s is kept: it has %d classes, too", file, classes)


def _warnings(
    training: LabelledDataset, validation: LabelledDataset, classes: int, labels: Sequence[str] | None
) -> tuple[str, ...]:
    names = training.class_names or labels
    parts = (("training", training), ("validation", validation))
    missing = {
        part: classes_without_images((record.label for record in dataset.records), classes, names)
        for part, dataset in parts
    }
    warnings = [f"the {part} part: {sentence}" for part, sentence in missing.items() if sentence]
    if training.list_file and validation.list_file:
        warnings += warn_of_shared_images(training, validation)
    return tuple(warnings)


def _count_classes(training: LabelledDataset) -> int:
    if training.class_names:
        return len(training.class_names)
    return 1 + max(record.label for record in training.records)


def _check_classes(training: LabelledDataset, validation: LabelledDataset, classes: int, *, named: bool) -> None:
    """Raise DatasetError for classes without training images, and for labels beyond the classes.

    With `named`, somebody has named the number of classes: some may then be without images, which is a warning.
    """
    if validation.class_names and len(validation.class_names) != classes:
        raise DatasetError(
            f"{validation.root}: {len(validation.class_names)} class folders for the validation, but the training "
            f"images have {classes} classes: the k-th folder counts as class k, so each class needs one; write a "
            "val_list.txt for a subset of them"
        )
    images = Counter(record.label for record in training.records)
    empty = [str(label) for label in range(classes) if not images[label]]
    if empty and not named:
        raise DatasetError(
            f"{training.list_file or training.root}: no training image of {len(empty)} of {classes} classes: "
            f"{', '.join(empty[:20])}{' ...' if len(empty) > 20 else ''}; classes are numbered from 0 without gaps, "
            "unless --num-classes says how many there are"
        )
    highest = max(record.label for record in validation.records)
    if highest >= classes:
        raise DatasetError(
            f"{validation.list_file or validation.root}: the label {highest} is too large; the training images have "
            f"{classes} classes, 0..{classes - 1}"
        )
