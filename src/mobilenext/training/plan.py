"""What a training run is, before anything is computed: checked data, recipe, classes and first weights."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.classification.balance import weights_of_classes
from mobilenext.classification.division import divide, lists_of, read_divided, share_of
from mobilenext.classification.fields import MOST_CLASSES
from mobilenext.data import LabelledDataset as Dataset
from mobilenext.data import Preprocessing
from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.class_names import classes_without_images, match_names, with_classes
from mobilenext.data.dataset import open_training, open_validation, validation_place
from mobilenext.errors import DataError, DatasetError, UsageError
from mobilenext.json_files import check, either, many, nullable, number, optional, record, sha256, text, whole
from mobilenext.machine.environment import environment
from mobilenext.machine.ranks import launched
from mobilenext.models import ModelCard, check_identity_divisor, find_model
from mobilenext.origin import command_line, now
from mobilenext.runs.run_folder import CONFIG, REMEDY, config_digest
from mobilenext.training.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mobilenext.weights.record import Weights

log = logging.getLogger(__name__)
SEEDS = 1 << 23  # a step's seed for Paddle is made of the run's, the step and the process
FROM_SCRATCH, FROM_WEIGHTS = "released", "finetune"  # the recipes where none is named
_PARTS = ("train", "val")
_OF_THE_WEIGHTS = {"image_size": "image_size", "crop_pct": "crop_pct", "eval_interpolation": "interpolation"}
_STORED = record(
    {
        **dict.fromkeys(("model", "data_folder.root"), text()),
        **dict.fromkeys(("recipe", "preprocessing", "environment"), record({})),
        "seed": whole(0, SEEDS - 1),
        "num_classes": whole(1, MOST_CLASSES),
        **dict.fromkeys(("identity_divisor", "processes", "data.train_images", "data.val_images"), whole(1)),
        **dict.fromkeys(("data.train_sha256", "data.val_sha256"), sha256()),
        "data.val_split": optional(either(text(), number(0, 1))),
        **dict.fromkeys(("data_folder.train_list", "data_folder.val_list"), nullable(text())),
        **dict.fromkeys(("started", "command"), optional(text())),  # runs of earlier versions do not know them
        "weights": nullable(record({"file": text()})),
        "labels": nullable(many(text())),
    }
)


@dataclass(frozen=True)
class Plan:
    """What a run is, before anything is computed."""

    config: dict[str, Any]  # run.json
    recipe: Recipe
    train: Dataset
    val: Dataset
    weights: Path | None
    labels: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()  # kept in result.json

    @property
    def lists(self) -> Mapping[str, bytes]:
        """The files of the run's folder that say which images were drawn, where `val_split` is a share."""
        return {} if share_of(self.config["data"].get("val_split")) is None else lists_of(self.train, self.val)

    @property
    def class_weights(self) -> npt.NDArray[np.float32] | None:
        """The weight of each class in the loss."""
        images = Counter(record.label for record in self.train.records)
        counts = [images[label] for label in range(self.config["num_classes"])]
        return weights_of_classes(self.recipe.class_weights, counts)

    @property
    def digest(self) -> str:
        """A checksum of everything that decides what the run computes."""
        return config_digest(self.config)


def new_plan(
    data: str | os.PathLike[str],
    recipe_name: str | None,
    settings: Iterable[str],
    seed: int,
    *,
    model: str | None,
    weights: str | os.PathLike[str] | None,
    num_classes: int | None,
    identity_divisor: int | None,
    train_list: str | os.PathLike[str] | None,
    val_list: str | os.PathLike[str] | None,
    labels: tuple[str, ...] | None,
    val_split: str | float | None = None,
    use: str | None = None,
    section: str | None = None,
) -> Plan:
    """The plan of a new run; see :func:`mobilenext.training.run.train` for the arguments.

    Raises:
        UsageError, DatasetError, WeightsError: what does not fit together, or cannot be read.
    """
    if not 0 <= seed < SEEDS:
        raise UsageError(f"seed is {seed}; expected 0 to {SEEDS - 1}")
    if not isinstance(settings, str):  # which is refused
        settings = tuple(settings)
    from_weights = weights is not None or "." in (model or "")
    default = FROM_WEIGHTS if from_weights else FROM_SCRATCH
    recipe = find_recipe(default if recipe_name is None else recipe_name).with_settings(settings)
    if model is None and weights is None:
        raise UsageError("no model; expected --model NAME, or --weights FILE to begin with")
    begun, card, divisor = _first_weights(model, weights, identity_divisor, use, section)
    check_identity_divisor(card, divisor)
    if val_split is not None and val_list is not None:
        raise UsageError("val_split and val_list at once; choose one of them")
    parts = partial(open_parts, Path(data), train_list, val_list, val_split=val_split, seed=seed, labels=labels)
    training, validation = parts()
    classes = num_classes or _classes_of(training)
    rows = _classifier_rows(begun, labels or training.class_names, classes) if begun else None
    if num_classes is not None:  # labels must be below it
        training, validation = parts(num_classes)
    _check_classes(training, validation, classes, asked=num_classes is not None)
    preprocessing = recipe.preprocessing()
    if begun:
        if begun.num_classes != classes and (num_classes is not None or not rows):
            rows = None  # create_model says that the classifier is fresh
        _describe_classifier(begun, classes, rows)
        recipe, preprocessing = _with_preprocessing(recipe, begun.preprocessing, tuple(settings))
    recipe = _with_fitting_batch(recipe, len(training), tuple(settings), begun=from_weights)
    if labels is None:
        labels = training.class_names  # those of the first weights name other data's classes
    if labels is not None and len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} classes: expected one name for each class")
    warnings = _warnings(training, validation, classes, labels)
    for warning in warnings:
        log.warning("%s", warning)
    repeats = len(training) - len({record.path for record in training.records})
    config = {
        "model": card.name,
        "recipe": recipe.stored(),
        "seed": seed,
        "num_classes": classes,
        "identity_divisor": divisor,
        "preprocessing": preprocessing.to_dict(),
        "weights": _weights_of(begun, rows) if begun else None,
        "labels": list(labels) if labels else None,
        "data": {
            "folder": Path(data).resolve().name,
            "train_images": len(training),
            "val_images": len(validation),
            "train_sha256": training.digest(),
            "val_sha256": validation.digest(),
            **({"train_repeats": repeats} if repeats else {}),
            **({} if val_split is None else {"val_split": share_of(val_split) or str(val_split)}),
        },
        "data_folder": {
            "root": str(Path(data).resolve()),
            "train_list": str(Path(train_list).resolve()) if train_list else None,
            "val_list": str(Path(val_list).resolve()) if val_list else None,
        },
        "steps_per_epoch": len(training) // recipe.batch_size,
        "epochs": recipe.all_epochs,
        "processes": launched()[1],
        "started": now(),
        "command": command_line(),
        "environment": environment(),
    }
    plan = Plan(config, recipe, training, validation, begun.path if begun else None, labels, warnings)
    _check_recipe(plan)
    return plan


def _check_recipe(plan: Plan) -> None:
    """Raises UsageError for what the recipe asks of other data or weights."""
    recipe = plan.recipe
    if plan.weights is None and (recipe.freeze != "none" or recipe.freeze_bn != "none"):
        raise UsageError(
            f"freeze is {recipe.freeze} and freeze_bn {recipe.freeze_bn} without first weights: what is freshly "
            "initialised has to be trained; begin with --weights FILE"
        )
    try:
        _ = plan.class_weights
    except ValueError as error:
        raise UsageError(f"class_weights is {recipe.class_weights!r}: {error}") from error


def resumed_plan(config: dict[str, Any], data: str | os.PathLike[str] | None, source: str = CONFIG) -> Plan:
    """The plan of a run that goes on, from its ``run.json``; `data` is given where the images have moved.

    `source` is the name of that file, for messages.

    Raises:
        DataError: a damaged ``run.json``. UsageError: other data than the run's.
    """
    check(config, _STORED, source, remedy=REMEDY)
    where, classes, labels = config["data_folder"], config["num_classes"], config["labels"]
    try:
        recipe = Recipe.from_dict(config["recipe"])
        check_identity_divisor(find_model(config["model"]), config["identity_divisor"])
        Preprocessing.from_dict(config["preprocessing"])
        val_split = config["data"].get("val_split")
        share = share_of(val_split)
        if labels and len(labels) != classes:
            raise UsageError(f"{len(labels)} labels for {classes} classes")
    except UsageError as error:
        raise DataError(f"{source} is damaged: {error}; {REMEDY}") from error
    described = {name: (config["data"][f"{name}_images"], config["data"][f"{name}_sha256"]) for name in _PARTS}
    root = Path(data) if data is not None else Path(where["root"])
    lists = [_in_moved_data(where[f"{name}_list"], Path(where["root"]), root) for name in _PARTS]
    labels = tuple(labels) if labels else None
    try:
        if data is None and not root.is_dir():
            raise DatasetError(
                f"{root}: no such folder, where the run's images were; if they have moved, `mobilenext train NEW_DATA "
                f"--resume {Path(source).parent}` goes on"
            )
        if share is not None:
            training, validation = read_divided(Path(source).parent, root)
        else:
            training, validation = open_parts(root, lists[0], lists[1], classes, val_split=val_split, labels=labels)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise DataError(
            f"{source}: the data that it names cannot be opened ({error.strerror}); name them, or {REMEDY}"
        ) from error
    for name, part in zip(_PARTS, (training, validation), strict=True):
        images, digest = described[name]
        if part.digest() != digest:
            raise UsageError(
                f"{root}: its {name} part is not the run's: {len(part)} images with the digest {part.digest()[:12]}, "
                f"the run has {images} with {digest[:12]}; name the run's data, or start a new run"
            )
    if config["processes"] != launched()[1]:
        log.warning("the run began with %d processes and goes on with %d", config["processes"], launched()[1])
    plan = Plan(config, recipe, training, validation, None, labels, _warnings(training, validation, classes, labels))
    try:
        _ = plan.class_weights
    except ValueError as error:
        raise DataError(f"{source} is damaged: recipe.class_weights: {error}; {REMEDY}") from error
    return plan


def _first_weights(
    model: str | None,
    weights: str | os.PathLike[str] | None,
    identity_divisor: int | None,
    use: str | None,
    section: str | None,
) -> tuple[Weights | None, ModelCard, int]:
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights

    name = model.partition(".")[0] if model else None
    if weights is None and (model is None or "." not in model):
        assert name is not None
        if given := [option for option, value in (("use", use), ("section", section)) if value is not None]:
            raise UsageError(f"{' and '.join(given)} given without weights; expected --weights FILE, whose they are")
        return None, find_model(name), 1 if identity_divisor is None else identity_divisor
    begun = read_weights(
        locate(model, weights), model=name, identity_divisor=identity_divisor, use=use, section=section
    )
    return begun, find_model(begun.model), begun.identity_divisor


def _with_preprocessing(
    recipe: Recipe, stored: Preprocessing, settings: tuple[str, ...]
) -> tuple[Recipe, Preprocessing]:
    """Images as the weights know them, but for what was set."""
    asked = {setting.partition("=")[0].strip() for setting in settings}
    taken = {name: getattr(stored, of_weights) for name, of_weights in _OF_THE_WEIGHTS.items() if name not in asked}
    recipe = dataclasses.replace(recipe, **taken)
    return recipe, dataclasses.replace(recipe.preprocessing(), mean=stored.mean, std=stored.std)


def _with_fitting_batch(recipe: Recipe, images: int, settings: tuple[str, ...], *, begun: bool) -> Recipe:
    """The recipe; where it has more images a batch than there are, and nobody set that, with a batch of at most half.

    It is a power of two for each process, so that an epoch has two steps or more.
    """
    processes = launched()[1]
    asked = {setting.partition("=")[0].strip() for setting in settings}
    if recipe.batch_size <= images or "batch_size" in asked or images < processes:
        return recipe
    of_process = max(1, images // 2 // processes)
    smaller = dataclasses.replace(recipe, batch_size=processes << (of_process.bit_length() - 1))
    log.info(
        "batch: %d images instead of the recipe's %d, since there are %d; the learning rate is scaled with it, %.4g to "
        "%.4g (--set batch_size=N sets another)%s",
        smaller.batch_size, recipe.batch_size, images, recipe.scaled_lr, smaller.scaled_lr,
        "" if begun else f"; few images want first weights: --weights FILE, which takes the recipe {FROM_WEIGHTS}",
    )  # fmt: skip
    return smaller


def _in_moved_data(list_file: str | None, before: Path, root: Path) -> Path | None:
    """A list file that lies in the data folder has moved with it."""
    if list_file is None:
        return None
    path = Path(list_file)
    return root / path.relative_to(before) if path.is_relative_to(before) else path


def open_parts(
    root: Path,
    train_list: str | os.PathLike[str] | None,
    val_list: str | os.PathLike[str] | None,
    num_classes: int | None = None,
    *,
    val_split: str | float | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> tuple[Dataset, Dataset]:
    """The training and the validation part; a share as `val_split` draws the second from the first by `seed`.

    Names of classes in both go together; they belong to those of `labels` where these are the same names.

    Raises:
        DatasetError: a part that is missing or wrong, or a class of the validation that is not trained.
    """
    share = share_of(val_split)
    training = open_training(root, list_file=train_list, num_classes=num_classes, whole=share is not None)
    training = _with_labels(training, labels, num_classes)
    if share is not None:
        training, validation = divide(training, root, share, seed)
        if other := validation_place(root):
            log.info("%s is not used: val_split divides the training images; val_split=val validates on it", other)
        return training, validation
    name = None if val_split is None else str(val_split)
    validation = open_validation(root, list_file=val_list, num_classes=num_classes, split=name)
    if names := training.class_names:
        validation = with_classes(validation, len(names), names, owner="the training part")
    else:
        validation = _with_labels(validation, labels, num_classes)
    return training, validation


def _with_labels(dataset: Dataset, labels: Sequence[str] | None, num_classes: int | None) -> Dataset:
    """Class folders by `labels` where those are names of the folders; by their place where they are other words."""
    if labels and dataset.class_names and match_names(dataset.class_names, labels).class_of:
        return with_classes(dataset, len(labels), labels, owner="the labels")
    check_class_folders(dataset, num_classes)
    return dataset


def _classifier_rows(begun: Weights, names: Sequence[str] | None, classes: int) -> tuple[int, ...] | None:
    """The weights' classes that the data's classes are, by name; () where it has others; None where the place decides.

    The place decides where one side has no names, or all names are in the same order.
    """
    from mobilenext.weights.record import names_of_classes

    known, assumed = names_of_classes(begun)
    if not names or not known or len(names) != classes:
        return None
    class_of = match_names(names, known).class_of
    if len(class_of) < len(names):
        return None if assumed else ()
    rows = tuple(class_of[name] for name in names)
    return None if rows == tuple(range(begun.num_classes)) else rows


def _describe_classifier(begun: Weights, classes: int, rows: tuple[int, ...] | None) -> None:
    file = begun.path.name
    if rows:
        of = begun.num_classes
        log.info("the classifier of %s is kept for the data's %d of its %d classes, by name", file, len(rows), of)
    elif rows is not None:
        log.warning("the classifier is fresh: %s has %d classes, too, but not all of the data's names", file, classes)
    elif begun.num_classes == classes:
        log.info("the classifier of %s is kept: it has %d classes, too", file, classes)


def _weights_of(begun: Weights, rows: tuple[int, ...] | None) -> dict[str, Any]:
    """What ``run.json`` says of the first weights; ``classes`` where their classifier is not kept as it is."""
    weights: dict[str, Any] = {"file": begun.path.name, "sha256": begun.sha256, "kind": begun.kind}
    if begun.section:
        weights["section"] = begun.section
    return weights if rows is None else {**weights, "classes": list(rows)}


def _warnings(training: Dataset, validation: Dataset, classes: int, labels: Sequence[str] | None) -> tuple[str, ...]:
    names = training.class_names or labels
    parts = (("training", training), ("validation", validation))
    missing = {
        part: classes_without_images((record.label for record in dataset.records), classes, names)
        for part, dataset in parts
    }
    warnings = [f"the {part} part: {sentence}" for part, sentence in missing.items() if sentence]
    if training.list_file and validation.list_file:
        trained = {record.path for record in training.records}
        if both := [record.name for record in validation.records if record.path in trained]:
            warnings.append(
                f"{len(both):,} of {len(validation):,} validation images are training images, too, such as {both[0]}: "
                "the score will be too high"
            )
    return tuple(warnings)


def _classes_of(training: Dataset) -> int:
    if training.class_names:
        return len(training.class_names)
    return 1 + max(record.label for record in training.records)


def _check_classes(training: Dataset, validation: Dataset, classes: int, *, asked: bool) -> None:
    """With `asked`, somebody has named the number of classes: some may be without images, which is a warning."""
    if validation.class_names and len(validation.class_names) != classes:
        raise DatasetError(
            f"{validation.root}: {len(validation.class_names)} class folders for the validation, but the training "
            f"images have {classes} classes: the k-th folder counts as class k, so each class needs one; write a "
            "val_list.txt for a subset of them"
        )
    images = Counter(record.label for record in training.records)
    empty = [str(label) for label in range(classes) if not images[label]]
    if empty and not asked:
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
