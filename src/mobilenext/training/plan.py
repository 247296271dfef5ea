"""Plan a training run, before anything is computed: checked data, the recipe, the job and the first weights."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Preprocessing
from mobilenext.errors import DataError, DatasetError, UsageError, nearest
from mobilenext.job import DataOptions, DataRequest, Job, Parts
from mobilenext.json_files import check, either, nullable, number, optional, record, sha256, text, whole
from mobilenext.machine.environment import environment
from mobilenext.machine.ranks import launched
from mobilenext.models import MODELS, Architecture, check_identity_divisor, find_model
from mobilenext.origin import command_line, now
from mobilenext.recipe import Recipe
from mobilenext.runs.run_folder import CONFIG, REMEDY, config_digest
from mobilenext.task import Task
from mobilenext.tasks import DEFAULT, find_task, task_names
from mobilenext.training.beginning import check_task, find_beginning, split_sizes
from mobilenext.training.options import PlanOptions

if TYPE_CHECKING:
    from typing import Unpack

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]
SEEDS = 1 << 23  # a step's seed for Paddle is made of the run's, the step and the process
_PARTS = ("train", "val")
_STORED = {
    **dict.fromkeys(("model", "data_folder.root"), text()),
    "task": optional(text()),
    "architecture": optional(record({})),
    **dict.fromkeys(("recipe", "preprocessing", "environment"), record({})),
    "seed": whole(0, SEEDS - 1),
    **dict.fromkeys(("identity_divisor", "processes", "data.train_images", "data.val_images"), whole(1)),
    **dict.fromkeys(("data.train_sha256", "data.val_sha256"), sha256()),
    "data.val_split": optional(either(text(), number(0, 1))),
    "data.train_split": optional(text()),
    **dict.fromkeys(("data_folder.train_list", "data_folder.val_list"), nullable(text())),
    **dict.fromkeys(("started", "command"), optional(text())),  # runs of earlier versions do not know them
    "weights": nullable(record({"file": text()})),
}


@dataclass(frozen=True)
class Plan:
    """What a run is, before anything is computed."""

    config: dict[str, Any]  # run.json
    task: Task
    recipe: Recipe
    parts: Parts
    job: Job
    weights: Path | None  # the file that a new run begins with

    @property
    def digest(self) -> str:
        """Return a checksum of everything that decides what the run computes."""
        return config_digest(self.config)


def new_plan(
    data: PathLike,
    *,
    model: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
    weights: PathLike | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Return the plan of a new run; see :func:`mobilenext.training.run.train` for the arguments.

    Raises:
        UsageError, DatasetError, WeightsError: what does not fit together, or cannot be read.
    """
    seed = options.get("seed") or 0
    if not 0 <= seed < SEEDS:
        raise UsageError(f"seed is {seed}; expected 0 to {SEEDS - 1}")
    if isinstance(settings, str):
        raise UsageError(f"settings is the text {settings!r}; expected a list of such texts")
    beginning = find_beginning(model, weights, options)
    first, card = beginning.weights, beginning.card
    task = find_task(options.get("task") or card.task or getattr(first, "task", None))
    settings, sizes = split_sizes(settings, card, task.training.recipe.settable())
    check_task(beginning, task)
    names = frozenset(setting.partition("=")[0].strip() for setting in settings)
    chosen = _with_settings(find_recipe(task, recipe, from_weights=first is not None), settings, names, task, card.name)
    chosen, preprocessing = beginning.fit(chosen, names)
    if card.name not in task.training.cards:  # networks of the task's own check the size themselves
        card = beginning.of_size(preprocessing.image_size, sizes).card
    whole = first if beginning.part is None else None
    request = DataRequest(Path(data), seed, _data_options(options), whole, chosen, names)
    parts = task.training.open_parts(request)
    chosen = _with_fitting_batch(chosen, len(parts.train), names, task, begins=first is not None)
    for warning in parts.warnings:
        log.warning("%s", warning)
    stored = beginning.stored()
    config = {
        **({} if task.name == DEFAULT else {"task": task.name}),
        "model": card.name,
        **({"architecture": card.architecture.to_dict()} if card.architecture else {}),
        "recipe": chosen.stored(),
        "seed": seed,
        "identity_divisor": beginning.identity_divisor,
        "preprocessing": preprocessing.to_dict(),
        "weights": {**stored, **parts.first} if stored else None,
        **parts.stored,
        **_stored_data(request, parts),
        "steps_per_epoch": len(parts.train) // chosen.batch_size,
        "epochs": chosen.total_epochs(len(parts.train) // chosen.batch_size),
        "processes": launched()[1],
        "started": now(),
        "command": command_line(),
        "environment": environment(),
    }
    if first is None:
        _check_nothing_frozen(chosen)
    job = task.training.job(config, chosen, parts)
    return Plan(config, task, chosen, parts, job, first.path if first else None)


def _check_nothing_frozen(recipe: Recipe) -> None:
    if recipe.freeze != "none" or recipe.freeze_bn != "none":
        raise UsageError(
            f"freeze is {recipe.freeze} and freeze_bn {recipe.freeze_bn} without first weights: what is freshly "
            "initialized has to be trained; begin with --weights FILE"
        )


def resumed_plan(config: dict[str, Any], data: PathLike | None, source: str = CONFIG) -> Plan:
    """Return the plan of a run that goes on, from its ``run.json``; `data` is given where the images have moved.

    `source` is the name of that file, for messages.

    Raises:
        DataError: a damaged ``run.json``. UsageError: other data than the run's.
    """
    check(config, _STORED, source, remedy=REMEDY)
    where, folder = config["data_folder"], Path(source).parent
    root = Path(data) if data is not None else Path(where["root"])
    data_options = {name: config["data"].get(name) for name in ("train_split", "val_split")}
    options = DataOptions(**data_options)  # type: ignore[typeddict-item]
    options["train_list"], options["val_list"] = (
        _in_moved_data(where[f"{name}_list"], Path(where["root"]), root) for name in _PARTS
    )
    try:
        task = find_task(config.get("task"))
        check(config, task.training.stored, source, remedy=REMEDY)
        recipe = task.training.recipe.from_dict(config["recipe"])
        card = task.training.cards.get(config["model"]) or find_model(_model_of(config))
        check_identity_divisor(card, config["identity_divisor"])
        Preprocessing.from_dict(config["preprocessing"])
        if data is None and not root.is_dir():
            raise DatasetError(
                f"{root}: no such folder, where the run's images were; if they have moved, `mobilenext "
                f"{task.training.verb} NEW_DATA --resume {folder}` goes on"
            )
        parts = task.training.reopen_parts(config, DataRequest(root, config["seed"], options, recipe=recipe), folder)
    except UsageError as error:
        raise DataError(f"{source} is damaged: {error}; {REMEDY}") from error
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise DataError(
            f"{source}: the data that it names cannot be opened ({error.strerror}); name them, or {REMEDY}"
        ) from error
    _check_same_data(config, parts, root)
    try:
        job = task.training.job(config, recipe, parts)
    except UsageError as error:
        raise DataError(f"{source} is damaged: recipe: {error}; {REMEDY}") from error
    if config["processes"] != launched()[1]:
        log.warning("the run began with %d processes and goes on with %d", config["processes"], launched()[1])
    return Plan(config, task, recipe, parts, job, None)


def _model_of(config: Mapping[str, Any]) -> str | Architecture:
    """Return what names the model of ``run.json``: its architecture, or its name.

    Raises:
        UsageError: an architecture that cannot be used.
    """
    # Another task keeps what its own networks are made of under this name, as a detector its form.
    if config.get("architecture") is None or config.get("task") not in (None, DEFAULT):
        return str(config["model"])
    architecture = Architecture.from_dict(config["architecture"])
    if architecture.name != config["model"]:
        raise UsageError(f"model is {config['model']}; expected {architecture.name}, the name of its architecture")
    return architecture


def find_recipe(task: Task, name: str | None, *, from_weights: bool = False) -> Recipe:
    """Return a recipe of the task; without a name the one for a run from scratch, or from weights.

    Raises:
        UsageError: no such recipe, where the nearest is named, or one of another task.
    """
    recipes = task.training.recipes
    if name is None:
        name = task.training.from_weights if from_weights else task.training.from_scratch
    if name not in recipes:
        for other in _other_tasks(task):
            if name in other.training.recipes:
                raise UsageError(_of_other_task(name, other, task))
        raise UsageError(
            f"unknown recipe {name!r}{nearest(name, recipes)}; known for {task.name}: {', '.join(recipes)}"
        )
    return recipes[name]


def _other_tasks(task: Task) -> list[Task]:
    return [find_task(name) for name in task_names() if name != task.name]


def _of_other_task(recipe: str, other: Task, task: Task) -> str:
    """Return the message for a recipe of another task than the model's."""
    models = [card.name for card in MODELS.values() if (card.task or DEFAULT) == other.name]
    example = f" such as {models[0]}" if models else ""
    backbone = f", and give weights for {task.name} as --backbone FILE" if other.training.has_backbone else ""
    return (
        f"{recipe} is a recipe for {other.name}, but the model or the weights are for {task.name}; name a model for "
        f"{other.name} by --model{example}{backbone}; or choose a recipe for {task.name}: "
        f"{', '.join(task.training.recipes)}"
    )


def _with_settings(recipe: Recipe, settings: Collection[str], names: Collection[str], task: Task, model: str) -> Recipe:
    """Return the recipe with its fields set; `names` are those of the settings.

    Raises:
        UsageError: a field that no recipe has, or only one of another task, which is named.
    """
    for name in sorted(set(names) - set(recipe.settable())):
        for other in _other_tasks(task):
            if name in other.training.recipe.settable():
                raise UsageError(
                    f"{name} is set, which only recipes for {other.name} have; {model} is trained for {task.name}, "
                    f"expected no {name}"
                )
    return recipe.with_settings(settings)


def _data_options(options: PlanOptions) -> DataOptions:
    return DataOptions(**{name: options[name] for name in DataOptions.__annotations__ if name in options})  # type: ignore


def _with_fitting_batch(recipe: Recipe, images: int, settings: Collection[str], task: Task, *, begins: bool) -> Recipe:
    """Return the recipe; if its batch exceeds the data, and nobody set it, with a batch of at most half of them.

    It is a power of two for each process, so that an epoch has two steps or more.
    """
    processes = launched()[1]
    if recipe.batch_size <= images or "batch_size" in settings or images < processes:
        return recipe
    of_process = max(1, images // 2 // processes)
    smaller = dataclasses.replace(recipe, batch_size=processes << (of_process.bit_length() - 1))
    advice = f"; few images want first weights: --weights FILE, which takes the recipe {task.training.from_weights}"
    log.info(
        "batch: %d images instead of the recipe's %d, since there are %d; the learning rate is scaled with it, %.4g to "
        "%.4g (--set batch_size=N sets another)%s",
        smaller.batch_size, recipe.batch_size, images, recipe.scaled_lr, smaller.scaled_lr, "" if begins else advice,
    )  # fmt: skip
    return smaller


def _stored_data(request: DataRequest, parts: Parts) -> dict[str, Any]:
    """Return what ``run.json`` says of the data: what decides what is computed, and where they lie."""
    training, validation, options = parts.train, parts.val, request.options
    repeats = len(training) - len({record.path for record in training.records})
    lists = {name: options.get(name) for name in ("train_list", "val_list")}
    return {
        "data": {
            "folder": request.root.resolve().name,
            "train_images": len(training),
            "val_images": len(validation),
            "train_sha256": training.digest(),
            "val_sha256": validation.digest(),
            **({"train_repeats": repeats} if repeats else {}),
            **parts.data,
        },
        "data_folder": {
            "root": str(request.root.resolve()),
            **{name: str(Path(str(path)).resolve()) if path else None for name, path in lists.items()},
        },
    }


def _in_moved_data(list_file: str | None, before: Path, root: Path) -> Path | None:
    """Return a list file where it is now: one that lay in the data folder has moved with it."""
    if list_file is None:
        return None
    path = Path(list_file)
    return root / path.relative_to(before) if path.is_relative_to(before) else path


def _check_same_data(config: Mapping[str, Any], parts: Parts, root: Path) -> None:
    """Raise UsageError for other data than those that the run began with."""
    for name, part in zip(_PARTS, (parts.train, parts.val), strict=True):
        images, digest = config["data"][f"{name}_images"], config["data"][f"{name}_sha256"]
        if part.digest() != digest:
            raise UsageError(
                f"{root}: its {name} part is not the run's: {len(part)} images with the digest {part.digest()[:12]}, "
                f"the run has {images} with {digest[:12]}; name the run's data, or start a new run"
            )
