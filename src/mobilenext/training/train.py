"""Train a network: from scratch, from given weights, or on from where a run stopped.

    data set ──> checked records ──> feeder ──┐
                                              ├──> loop: steps, log, checkpoints, validation ──> weights, result
    recipe, model, first weights ──> network ─┘
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Dataset, Preprocessing, open_dataset
from mobilenext.data.batches import WorkerPool, available_cores
from mobilenext.errors import DatasetError, MissingDependency, UsageError
from mobilenext.evaluation.environment import environment
from mobilenext.models import ModelCard, check_identity_divisor, find_model, require_paddle
from mobilenext.runtime import require, resolve_device
from mobilenext.training.distributed import Ranks, launched
from mobilenext.training.feeding import Feeder, fits_in_memory
from mobilenext.training.process import prepare_process
from mobilenext.training.recipes import Recipe, find_recipe
from mobilenext.training.run_folder import (
    BEST,
    CHECKPOINT,
    CURVES,
    LAST,
    LAST_EMA,
    RESULT,
    RunFolder,
    config_digest,
    read_config,
    write_json,
)

if TYPE_CHECKING:
    from mobilenext.models._layers import Network
    from mobilenext.training.loop import Loop
    from mobilenext.weights.checkpoint import Weights

log = logging.getLogger(__name__)
TRAIN_LIST, TRAIN_FOLDER = "train_list.txt", "train"
_OF_THE_WEIGHTS = {"image_size": "image_size", "crop_pct": "crop_pct", "eval_interpolation": "interpolation"}


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    model: str | None = None,
    recipe: str = "released",
    settings: Iterable[str] = (),
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    identity_divisor: int | None = None,
    seed: int = 0,
    train_list: str | os.PathLike[str] | None = None,
    val_list: str | os.PathLike[str] | None = None,
    labels: tuple[str, ...] | None = None,
    resume: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    max_unreadable: int = 0,
    log_every: int = 20,
    save_every: float = 600.0,
    visualdl: bool = False,
) -> dict[str, Any]:
    """Train, and write everything into a folder (see ``run_folder``).

    Args:
        data: a folder with ``train_list.txt`` and ``val_list.txt``, or with ``train/`` and ``val/`` of class folders.
        output: the folder of the run, new.
        model: a model's name; with `weights` it may be left out.
        recipe: one of ``RECIPES``; settings: texts ``key=value`` that replace its fields.
        weights: a file or a tag to begin with; None: freshly initialised.
        num_classes: None takes the data's. Another number than the weights' makes a fresh classifier.
        identity_divisor: None takes the weights' (or 1).
        seed: of initialisation, order, augmentation and dropout.
        train_list, val_list: other list files.
        labels: a name for each class, stored with the weights.
        resume: the folder of a run, to go on with it; of the other arguments only those from `device` on, and `data`
            where it has moved, may be given with it.
        device: ``auto``, ``cpu`` or ``gpu``.
        threads: of this process (CPU; default 1); workers: processes that read images, 0 for none (default: none where
            the data fit in memory).
        max_unreadable: so many training images may be unreadable; they are left out, counted and listed.
        log_every: steps between two lines; save_every: seconds between two checkpoints within an epoch (0: each step).
        visualdl: write scalars for VisualDL, too.

    Returns:
        What is written to ``result.json``.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError: what was read.
        OutputError: what could not be written. CheckFailed: the training has diverged. PeerLost: another process ended.
    """
    for name, value, least in (
        ("threads", threads, 1), ("workers", workers, 0), ("max_unreadable", max_unreadable, 0), ("seed", seed, 0),
        ("log_every", log_every, 1), ("save_every", save_every, 0),
    ):  # fmt: skip
        if value is not None and not value >= least:
            raise UsageError(f"{name} is {value!r}; expected {least} or more")
    if visualdl:
        require(["visualdl"], "visualdl", "--visualdl")
    if "paddle" not in sys.modules:
        prepare_process(threads or 1)
    device = resolve_device(device)
    require_paddle()
    fresh = {
        "model": model, "weights": weights, "num_classes": num_classes, "identity_divisor": identity_divisor,
        "train_list": train_list, "val_list": val_list, "labels": labels,
    }  # fmt: skip
    if resume is not None:
        given = [name for name, value in fresh.items() if value is not None] + ["settings"] * bool(tuple(settings))
        if given:
            raise UsageError(
                f"{', '.join(given)} with resume: a run goes on as it began; leave them out, or start a new run"
            )
        config = read_config(Path(resume))
        folder = Path(resume)
    else:
        if data is None or output is None:
            raise UsageError("expected a data set and an output folder, or --resume with the folder of a run")
        folder = Path(output)
    plan = _planned(config, data) if resume is not None else _new_plan(data, recipe, settings, seed, **fresh)
    _check_device(plan.recipe, device)

    import paddle

    paddle.set_device(device)
    ranks = Ranks()
    with contextlib.ExitStack() as stack:
        files = RunFolder(folder) if ranks.first else None
        if files:
            stack.callback(files.close)
            if resume is None:
                files.begin(plan.config)
        ranks.wait()
        if workers is None:
            small = fits_in_memory(plan.train.records)
            workers = 0 if small else max(1, min(8, available_cores()) // ranks.world)
        pool = stack.enter_context(WorkerPool(workers)) if workers else None
        preprocessing = Preprocessing.from_dict(plan.config["preprocessing"])
        feeder = Feeder(
            plan.train.records,
            plan.recipe.augmentation(),
            preprocessing,
            seed=plan.config["seed"],
            batch_size=plan.recipe.batch_size,
            rank=ranks.rank,
            world=ranks.world,
            pool=pool,
            max_unreadable=max_unreadable,
        )
        loop = _make_loop(plan, feeder, preprocessing, ranks, files, pool, log_every, save_every, device)
        if visualdl and files:
            loop.scalars = stack.enter_context(_visualdl(folder))
        _describe(plan, loop, device, workers, threads)
        if resume is not None:
            loop.restore(folder / CHECKPOINT)
            if files:
                files.keep_log_until(loop.position.global_step)
            log.info("resumed: epoch %d, step %d", loop.position.epoch + 1, loop.position.step)
        started = time.perf_counter()
        loop.run()
        return _finish(plan, loop, files, time.perf_counter() - started)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What a run is, before anything is computed."""

    config: dict[str, Any]  # run.json
    recipe: Recipe
    train: Dataset
    val: Dataset
    weights: Path | None
    labels: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        return config_digest(self.config)


def _new_plan(
    data: str | os.PathLike[str],
    recipe_name: str,
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
) -> _Plan:
    settings = tuple(settings)
    recipe = find_recipe(recipe_name).with_settings(settings)
    if model is None and weights is None:
        raise UsageError("no model; expected --model NAME, or --weights FILE to begin with")
    begun, card, divisor = _first_weights(model, weights, identity_divisor)
    check_identity_divisor(card, divisor)
    training, validation = _open_parts(Path(data), train_list, val_list)
    classes = num_classes or _classes_of(training)
    if begun and num_classes is None and begun.num_classes != classes:
        raise UsageError(
            f"{begun.path} has {begun.num_classes} classes, the training images have {classes}: "
            f"--num-classes {classes} makes a fresh classifier for them"
        )
    if num_classes is not None:  # labels must be below it
        training, validation = _open_parts(Path(data), train_list, val_list, num_classes)
    _check_classes(training, validation, classes)
    preprocessing = recipe.preprocessing()
    if begun:
        recipe, preprocessing = _with_preprocessing(recipe, begun.preprocessing, settings)
    labels = labels or training.class_names or (begun.labels if begun and begun.num_classes == classes else None)
    if labels and len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} classes: expected one name for each class")
    config = {
        "model": card.name,
        "recipe": recipe.to_dict(),
        "seed": seed,
        "num_classes": classes,
        "identity_divisor": divisor,
        "preprocessing": preprocessing.to_dict(),
        "weights": {"file": begun.path.name, "sha256": begun.sha256, "kind": begun.kind} if begun else None,
        "labels": list(labels) if labels else None,
        "data": {
            "folder": training.root.name,
            "train_images": len(training),
            "val_images": len(validation),
            "train_sha256": training.digest(),
            "val_sha256": validation.digest(),
        },
        "data_folder": {
            "root": str(Path(data).resolve()),
            "train_list": str(Path(train_list).resolve()) if train_list else None,
            "val_list": str(Path(val_list).resolve()) if val_list else None,
        },
        "steps_per_epoch": len(training) // recipe.batch_size,
        "epochs": recipe.all_epochs,
        "processes": launched()[1],
        "environment": environment(),
    }
    return _Plan(config, recipe, training, validation, begun.path if begun else None, labels)


def _planned(config: dict[str, Any], data: str | os.PathLike[str] | None) -> _Plan:
    """The plan of a run that goes on."""
    try:
        recipe = Recipe.from_dict(config["recipe"])
        where, described, classes = config["data_folder"], config["data"], config["num_classes"]
        find_model(config["model"])
        lists = [where["train_list"], where["val_list"]]
        root = Path(data) if data is not None else Path(where["root"])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"run.json is damaged: {error!r}; start the run anew") from error
    training, validation = _open_parts(root, *lists, classes)
    for name, part in (("train", training), ("val", validation)):
        if part.digest() != described[f"{name}_sha256"]:
            raise UsageError(
                f"{root}: its {name} part is not the run's: {len(part)} images with the digest {part.digest()[:12]}, "
                f"the run has {described[f'{name}_images']} with {described[f'{name}_sha256'][:12]}; name the run's "
                "data, or start a new run"
            )
    if config["processes"] != launched()[1]:
        log.warning("the run began with %d processes and goes on with %d", config["processes"], launched()[1])
    labels = config["labels"]
    return _Plan(config, recipe, training, validation, None, tuple(labels) if labels else None)


def _first_weights(
    model: str | None, weights: str | os.PathLike[str] | None, identity_divisor: int | None
) -> tuple[Weights | None, ModelCard, int]:
    from mobilenext.weights.checkpoint import read_weights
    from mobilenext.weights.pretrained import locate

    name = model.partition(".")[0] if model else None
    if weights is None and (model is None or "." not in model):
        assert name is not None
        return None, find_model(name), identity_divisor or 1
    begun = read_weights(locate(model, weights), model=name, identity_divisor=identity_divisor)
    return begun, find_model(begun.model), begun.identity_divisor


def _with_preprocessing(
    recipe: Recipe, stored: Preprocessing, settings: tuple[str, ...]
) -> tuple[Recipe, Preprocessing]:
    """Images as the weights know them, but for what was set."""
    asked = {setting.partition("=")[0].strip() for setting in settings}
    taken = {
        name: getattr(stored, of_weights) for name, of_weights in _OF_THE_WEIGHTS.items() if name not in asked
    }
    recipe = dataclasses.replace(recipe, **taken)
    return recipe, dataclasses.replace(recipe.preprocessing(), mean=stored.mean, std=stored.std)


def _open_parts(
    root: Path,
    train_list: str | os.PathLike[str] | None,
    val_list: str | os.PathLike[str] | None,
    num_classes: int | None = None,
) -> tuple[Dataset, Dataset]:
    """The training and the validation part."""
    validation = open_dataset(root, list_file=val_list, num_classes=num_classes)
    if train_list is None and (root / TRAIN_LIST).exists():
        train_list = root / TRAIN_LIST
    if train_list is not None:
        return open_dataset(root, list_file=train_list, num_classes=num_classes), validation
    if not (root / TRAIN_FOLDER).is_dir():
        raise DatasetError(
            f"{root}: no training part; expected {TRAIN_LIST} or a folder {TRAIN_FOLDER}/ with one folder for each "
            "class, or --train-list FILE"
        )
    training = open_dataset(root / TRAIN_FOLDER, num_classes=num_classes)
    if validation.class_names and training.class_names != validation.class_names:
        one_sided = sorted(set(training.class_names or ()) ^ set(validation.class_names))
        raise DatasetError(
            f"{root}: the classes of {TRAIN_FOLDER}/ and of the validation differ, so their numbers would not agree: "
            f"{', '.join(one_sided[:10])} {'is' if len(one_sided) == 1 else 'are'} on one side only"
        )
    return training, validation


def _classes_of(training: Dataset) -> int:
    if training.class_names:
        return len(training.class_names)
    return 1 + max(record.label for record in training.records)


def _check_classes(training: Dataset, validation: Dataset, classes: int) -> None:
    images = Counter(record.label for record in training.records)
    empty = [str(label) for label in range(classes) if not images[label]]
    if empty:
        raise DatasetError(
            f"{training.list_file or training.root}: no training image of {len(empty)} of {classes} classes: "
            f"{', '.join(empty[:20])}{' ...' if len(empty) > 20 else ''}; classes are numbered from 0 without gaps"
        )
    highest = max(record.label for record in validation.records)
    if highest >= classes:
        raise DatasetError(
            f"{validation.list_file or validation.root}: the label {highest} is too large; the training images have "
            f"{classes} classes, 0..{classes - 1}"
        )


def _check_device(recipe: Recipe, device: str) -> None:
    if recipe.precision != "fp32" and device == "cpu":
        raise UsageError(
            f"precision is {recipe.precision}, which needs a GPU: Paddle's convolutions on a CPU are float32 in mixed "
            "precision, too; use --set precision=fp32"
        )


def _make_loop(
    plan: _Plan,
    feeder: Feeder,
    preprocessing: Preprocessing,
    ranks: Ranks,
    files: RunFolder | None,
    pool: WorkerPool | None,
    log_every: int,
    save_every: float,
    device: str,
) -> Loop:
    import paddle

    from mobilenext.training.loop import Loop
    from mobilenext.training.validation import Validation

    config, recipe = plan.config, plan.recipe
    paddle.seed(config["seed"])
    network = _network(plan)
    ranks.share(network.state_dict().values())
    if device == "cpu":
        _accelerate(network)
    validation = Validation(
        plan.val.records,
        preprocessing,
        num_classes=config["num_classes"],
        batch_size=recipe.batch_size // recipe.accumulate // ranks.world or 1,
        ranks=ranks,
        pool=pool,
    )

    def keep_best(loop: Loop, kind: str) -> None:
        tensors = loop.weights() if kind == "raw" else loop.averaged_weights()
        _write_weights(plan, network, tensors, kind, files.folder / BEST) if files else None

    return Loop(
        network, recipe, feeder, validation, ranks, files, seed=config["seed"], run_digest=plan.digest,
        log_every=log_every, save_every=save_every, keep_best=keep_best,
    )  # fmt: skip


def _network(plan: _Plan) -> Network:
    """The network in training mode, with its first weights and the recipe's regularisation."""
    from paddle import nn

    from mobilenext.training.sync_batch_norm import synchronise
    from mobilenext.weights.pretrained import create_model

    config, recipe = plan.config, plan.recipe
    network = create_model(
        config["model"],
        weights=plan.weights,
        num_classes=config["num_classes"],
        identity_divisor=config["identity_divisor"],
    )
    if recipe.dropout is not None:
        for layer in network.sublayers():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
    if recipe.drop_connect is not None:
        network.set_drop_connect(recipe.drop_connect)
    if recipe.sync_bn and launched()[1] > 1:
        synchronise(network)
    network.train()
    return network


def _accelerate(network: Network) -> None:
    try:
        require(["numba"], "train", "fast training on a CPU")
    except MissingDependency as missing:
        log.warning("%s; without it a step takes several times as long", missing)
        return
    from mobilenext.training.depthwise import accelerate

    accelerate(network)


def _describe(plan: _Plan, loop: Loop, device: str, workers: int, threads: int | None) -> None:
    config, recipe = plan.config, plan.recipe
    log.info(
        "model: %s, %d classes, identity divisor %d, from %s",
        config["model"], config["num_classes"], config["identity_divisor"],
        config["weights"]["file"] if config["weights"] else f"seed {config['seed']}",
    )  # fmt: skip
    log.info(
        "recipe: %s (%s); expected there: %s", recipe.name, recipe.source, recipe.expected,
    )  # fmt: skip
    scaled = "" if recipe.batch_size == recipe.lr_batch_size else (
        f" (lr {recipe.lr:g} for a batch of {recipe.lr_batch_size}, scaled linearly)"
    )
    log.info(
        "%d epochs of %d steps, batch %d over %d processes, highest learning rate %.4g%s",
        recipe.all_epochs, loop.feeder.steps_per_epoch, recipe.batch_size, loop.ranks.world, recipe.scaled_lr, scaled,
    )  # fmt: skip
    log.info(
        "data: %d training and %d validation images of %s, %s; %s, %d threads",
        len(plan.train), len(plan.val), plan.train.root,
        f"read by {workers} processes" if workers else "kept in memory", device, threads or 1,
    )  # fmt: skip


def _write_weights(plan: _Plan, network: Network, tensors: Mapping[str, Any], kind: str, path: Path) -> None:
    """Weights as `mobilenext evaluate` takes them."""
    from mobilenext.weights import naming
    from mobilenext.weights.checkpoint import Weights, write_weights

    config = plan.config
    weights = Weights(
        model=config["model"],
        num_classes=config["num_classes"],
        identity_divisor=config["identity_divisor"],
        preprocessing=Preprocessing.from_dict(config["preprocessing"]),
        labels=plan.labels,
        path=path,
        sha256="",
        source_name=f"mobilenext train, recipe {plan.recipe.name}, seed {config['seed']}",
        source_sha256=plan.digest,
        card=None,
        kind=kind,
        notes=(),
        tensors=tensors,
        entries=naming.entries_of(network),
        dialect="paddle",
        dropped=(),
    )
    write_weights(weights, path)


def _finish(plan: _Plan, loop: Loop, files: RunFolder | None, wall_seconds: float) -> dict[str, Any]:
    """Write the last weights, the result and the curves."""
    final = loop.position.final or {}
    trained = loop.recipe.all_epochs * loop.feeder.steps_per_epoch * loop.recipe.batch_size
    result = {
        "model": plan.config["model"],
        "identity_divisor": plan.config["identity_divisor"],
        "seed": plan.config["seed"],
        "recipe": plan.config["recipe"],
        "data": plan.config["data"],
        "best": loop.position.best,
        "final": {"raw": final.get("raw"), "ema": final.get("ema")},
        "train_seconds": round(loop.position.train_seconds, 2),
        "images_per_second": round(trained / loop.position.train_seconds, 2),
        "last_process_seconds": round(wall_seconds, 2),
        "peak_memory_mib": _peak_memory_mib(),
        "processes": loop.ranks.world,
        "unreadable": loop.feeder.unreadable,
        "run_sha256": plan.digest,
        "environment": plan.config["environment"],
    }
    if files:
        _write_weights(plan, loop.network, loop.weights(), "raw", files.folder / LAST)
        if loop.average:
            _write_weights(plan, loop.network, loop.averaged_weights(), "ema", files.folder / LAST_EMA)
        write_json(files.folder / RESULT, result)
        _write_curves(files.folder)
    log.info(
        "finished: %.1f images/s, %.0f s of training, peak memory %.0f MiB",
        result["images_per_second"], result["train_seconds"], result["peak_memory_mib"],
    )  # fmt: skip
    for path, problem in loop.feeder.unreadable.items():
        log.warning("left out, unreadable: %s: %s", path, problem)
    return result


def _write_curves(folder: Path) -> None:
    from mobilenext.report.training_report import read_run, write_curves

    try:
        write_curves([read_run(folder)], folder / CURVES)
    except MissingDependency as missing:
        log.info("no picture of the curves: %s", missing)


def _peak_memory_mib() -> float:
    """Of this process; on a GPU, of the device."""
    import paddle

    if paddle.device.get_device().startswith("gpu"):
        return round(paddle.device.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


@contextlib.contextmanager
def _visualdl(folder: Path) -> Iterator[Any]:
    from visualdl import LogWriter

    with LogWriter(str(folder / "visualdl")) as writer:
        yield writer

