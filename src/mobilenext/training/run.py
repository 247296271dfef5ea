"""Train a network: from scratch, from given weights, or on from where a run stopped.

data set ──> checked records ──> feeder ──┐
                                          ├──> loop: steps, log, checkpoints, validation ──> weights, result
recipe, model, first weights ──> network ─┘
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Preprocessing
from mobilenext.data.labels import labels_of
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import MissingDependency, UsageError
from mobilenext.json_files import read_json
from mobilenext.machine.environment import environment, peak_memory_mib
from mobilenext.machine.packages import require, require_paddle
from mobilenext.machine.pool import WorkerPool, available_cores
from mobilenext.machine.process_environment import openmp_threads, prepare_process
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.machine.stopping import handlers_kept
from mobilenext.origin import now, origin
from mobilenext.runs.run_folder import (
    BEST,
    CHECKPOINT,
    CONFIG,
    CURVES,
    LAST,
    LAST_EMA,
    REMEDY,
    RESULT,
    RunFolder,
    read_config,
    write_json,
)
from mobilenext.runtime import resolve_device
from mobilenext.training.feeding import Composition, Feeder, fits_in_memory
from mobilenext.training.network import make_network, write_weights_of
from mobilenext.training.plan import Plan, new_plan, resumed_plan
from mobilenext.training.state import check_state

if TYPE_CHECKING:
    from mobilenext.training.loop import Loop

log = logging.getLogger(__name__)


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    model: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
    weights: str | os.PathLike[str] | None = None,
    use: str | None = None,
    section: str | None = None,
    num_classes: int | None = None,
    identity_divisor: int | None = None,
    seed: int | None = None,
    train_list: str | os.PathLike[str] | None = None,
    val_list: str | os.PathLike[str] | None = None,
    val_split: str | float | None = None,
    labels: str | os.PathLike[str] | Iterable[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    max_unreadable: int = 0,
    log_every: int = 20,
    save_every: float = 600.0,
    to_static: bool = False,
    visualdl: bool = False,
) -> dict[str, Any]:
    """Train, and write everything into a folder (see ``run_folder``).

    Args:
        data: a folder with ``train_list.txt`` and ``val_list.txt``, or with ``train/`` and ``val/`` of class folders.
        output: the folder of the run, new.
        model: a model's name; with `weights` it may be left out.
        recipe: one of ``RECIPES`` (default ``released``, with weights ``finetune``). settings: texts ``key=value`` that
            replace its fields. Unless they set it, a ``batch_size`` above the number of images is made to fit.
        weights: a file or a tag to begin with; None: freshly initialised.
        use, section: which weights of a checkpoint that has several, as in ``evaluate``.
        num_classes: None takes the data's. Another number than the weights' makes a fresh classifier, which is logged.
        identity_divisor: None takes the weights' (or 1).
        seed: of initialisation, order, augmentation and dropout (default 0).
        train_list, val_list: other list files.
        val_split: what validates: the name of a part, ``test`` for one, or a share of the training images, 0.2 for one,
            drawn by class from `seed`. The folder of the run keeps the lists of the images that were drawn.
        labels: a name for each class, or a file of them; stored with the weights.
        resume: the folder of a run, to go on with it; of the other arguments only those from `device` on, and `data`
            where it has moved, may be given with it.
        device: ``auto``, ``cpu`` or ``gpu``.
        threads: of this process (CPU; default 1); workers: processes that read images, 0 for none (default: none where
            the data fit in memory).
        max_unreadable: so many training images may be unreadable; they are left out, counted and listed.
        log_every: steps between two lines; save_every: seconds between two checkpoints within an epoch (0: each step).
        to_static: compile the network to a graph by ``paddle.jit.to_static``; on a CPU that is slower.
        visualdl: write scalars for VisualDL, too.

    Returns:
        What is written to ``result.json``.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError: what was read.
        OutputError: what could not be written. CheckFailed: the training has diverged. PeerLost: another process ended.
        Stopped: Ctrl-C, SIGTERM, or another signal that ends a process; a KeyboardInterrupt; there is a checkpoint.
    """
    options = Options(
        openmp_threads() if threads is None else threads, workers, max_unreadable, log_every, save_every, to_static,
        visualdl,
    )  # fmt: skip
    if "paddle" not in sys.modules:
        prepare_process(options.threads)
    elif threads is not None and threads != openmp_threads():
        log.warning("threads is %d, but Paddle was imported with %d, which stay", threads, openmp_threads())
    if resume is not None:
        begun = {
            "output": output, "model": model, "recipe": recipe, "settings": tuple(settings), "weights": weights,
            "use": use, "section": section,
            "num_classes": num_classes, "identity_divisor": identity_divisor, "seed": seed, "train_list": train_list,
            "val_list": val_list, "val_split": val_split, "labels": labels,
        }  # fmt: skip
        if given := [name for name, value in begun.items() if value not in (None, ())]:
            raise UsageError(
                f"{', '.join(given)} given with resume: a run goes on as it began; leave that out, or start a new run"
            )
        folder = Path(resume)
        plan = resumed_plan(read_config(folder), data, str(folder / CONFIG))
        if (folder / RESULT).is_file():
            log.info("%s is finished already", folder)
            return read_json(folder / RESULT, remedy=REMEDY)
        if (folder / CHECKPOINT).is_file():
            check_state(folder / CHECKPOINT, plan.digest)
    elif data is None or output is None:
        raise UsageError("expected a data set and an output folder, or --resume with the folder of a run")
    else:
        folder = Path(output)
        plan = new_plan(
            data, recipe, settings, seed or 0, model=model, weights=weights, num_classes=num_classes,
            identity_divisor=identity_divisor, train_list=train_list, val_list=val_list, val_split=val_split,
            labels=labels_of(labels), use=use, section=section,
        )  # fmt: skip
    _check_readable(plan, max_unreadable)
    device = resolve_device(device)
    if plan.recipe.sync_bn and plan.recipe.accumulate > 1 and max_unreadable:
        raise UsageError(
            "sync_bn with accumulate and max_unreadable: a process that left images out would have fewer parts than "
            "the others wait for; use --set accumulate=1"
        )
    if plan.recipe.precision != "fp32" and device == "cpu":
        raise UsageError(
            f"precision is {plan.recipe.precision}, which needs a GPU: Paddle's convolutions on a CPU are float32 in "
            "mixed precision, too; use --set precision=fp32"
        )
    return _run(plan, folder, device, options, resume=resume is not None)


def _check_readable(plan: Plan, max_unreadable: int) -> None:
    """Raises ImageError where images are of formats that are known not to be read."""
    training = list(plan.train.unreadable.values())
    if len(training) > max_unreadable:
        raise_unreadable(training, f"leave them out: --max-unreadable {len(training)}")
    if plan.val.unreadable:
        raise_unreadable(list(plan.val.unreadable.values()), "validate on others: --val-list FILE")


@dataclass(frozen=True)
class Options:
    """What decides how a run is carried out, and not what it computes."""

    threads: int
    workers: int | None
    max_unreadable: int
    log_every: int
    save_every: float
    to_static: bool
    visualdl: bool

    def __post_init__(self) -> None:
        for name, least in (
            ("threads", 1), ("workers", 0), ("max_unreadable", 0), ("log_every", 1), ("save_every", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{name} is {value!r}; expected {least} or more")
        if self.visualdl:
            require(["visualdl"], "visualdl", "--visualdl")


def _run(plan: Plan, folder: Path, device: str, options: Options, *, resume: bool) -> dict[str, Any]:
    """Carry out a plan in this process, which may be one of several."""
    require_paddle()
    import paddle

    with handlers_kept():
        paddle.disable_signal_handler()  # it takes SIGTERM for a crash to report on; here it is a wish to stop
    paddle.set_device(device)
    where = {**environment(), "device": device, "threads": options.threads}
    if resume:
        _warn_of_changes(plan.config["environment"], where)
    else:
        plan.config["environment"] = where
    ranks = Ranks()
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(RunFolder(folder)) if ranks.first else None
        if files and not resume:
            files.check_new()
        ranks.wait()
        workers = options.workers
        if workers is None:
            small = device == "cpu" and fits_in_memory((*plan.train.records, *plan.val.records))
            workers = 0 if small else max(1, min(8, available_cores()) // launched_here())
        pool = stack.enter_context(WorkerPool(workers)) if workers else None
        loop, compiled = _make_loop(plan, ranks, files, pool, device, options)
        if options.visualdl and files:
            loop.log.scalars = stack.enter_context(_visualdl(folder))
        read = f"read by {workers} processes" if workers else "kept in memory"
        _describe(plan, loop, f"{read}; {device}, {options.threads} threads")
        if resume and ((folder / CHECKPOINT).is_file() or plan.config["weights"]):
            loop.restore(folder / CHECKPOINT)
            if files:
                files.keep_log_until(loop.position.global_step, loop.position.epoch)
            log.info("resumed: epoch %d, step %d", loop.position.epoch + 1, loop.position.step)
        elif files:
            files.begin(plan.config, plan.lists)
            loop.save()
        started = time.perf_counter()
        loop.run()
        means = {
            "device": device,
            "threads": options.threads,
            "workers": workers,
            "compiled_depthwise": compiled,
            "to_static": options.to_static,
        }
        return _finish(plan, loop, files, time.perf_counter() - started, means)


def _warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Another machine, other versions or another number of threads go on with a run, and with other bits."""
    passing = ("load_average", "cores", "memory_gib", "governor")
    changes = [
        f"{name}: {before.get(name)} before, {value}"
        for name, value in now.items()
        if before.get(name) != value and name not in passing
    ]
    if changes:
        log.warning("the run began elsewhere, and its bits may differ from here on: %s", "; ".join(changes))


def _make_loop(
    plan: Plan, ranks: Ranks, files: RunFolder | None, pool: WorkerPool | None, device: str, options: Options
) -> tuple[Loop, bool]:
    """The loop, and whether its depthwise convolutions are compiled."""
    from mobilenext.training.loop import Loop
    from mobilenext.training.validation import Validation

    config, recipe = plan.config, plan.recipe
    preprocessing = Preprocessing.from_dict(config["preprocessing"])
    feeder = Feeder(
        plan.train.records,
        recipe.augmentation(),
        preprocessing,
        seed=config["seed"],
        batch_size=recipe.batch_size,
        rank=ranks.rank,
        world=ranks.world,
        pool=pool,
        max_unreadable=options.max_unreadable,
        composition=Composition(recipe.sampling == "balanced", plan.class_weights, recipe.mixing()),
    )
    validation = Validation(
        plan.val.records,
        preprocessing,
        num_classes=config["num_classes"],
        batch_size=recipe.batch_size // recipe.accumulate // ranks.world or 1,
        ranks=ranks,
        pool=pool,
    )
    network, compiled = make_network(plan, ranks, device, to_static=options.to_static)

    def keep_best(loop: Loop, kind: str) -> None:
        tensors = loop.weights() if kind == "raw" else loop.averaged_weights()
        write_weights_of(plan, network, tensors, kind, files.folder / BEST) if files else None

    loop = Loop(
        network, recipe, feeder, validation, ranks, files, seed=config["seed"], run_digest=plan.digest,
        log_every=options.log_every, save_every=options.save_every, keep_best=keep_best,
    )  # fmt: skip
    return loop, compiled


def _describe(plan: Plan, loop: Loop, means: str) -> None:
    config, recipe = plan.config, plan.recipe
    log.info(
        "model: %s, %d classes, identity divisor %d, from %s",
        config["model"], config["num_classes"], config["identity_divisor"],
        config["weights"]["file"] if config["weights"] else f"seed {config['seed']}",
    )  # fmt: skip
    log.info(
        "recipe: %s (%s); expected there: %s", recipe.name, recipe.source, recipe.expected,
    )  # fmt: skip
    scaled = ""
    if recipe.batch_size != recipe.lr_batch_size:
        scaled = f" (lr {recipe.lr:g} for a batch of {recipe.lr_batch_size}, scaled linearly)"
    log.info(
        "%d epochs of %d steps, batch %d over %d processes, highest learning rate %.4g%s",
        recipe.all_epochs, loop.feeder.steps_per_epoch, recipe.batch_size, loop.ranks.world, recipe.scaled_lr, scaled,
    )  # fmt: skip
    log.info(
        "data: %d training and %d validation images of %s, %s",
        len(plan.train),
        len(plan.val),
        config["data_folder"]["root"],
        means,
    )
    for note in dict.fromkeys((*plan.train.all_notes(), *plan.val.all_notes())):
        log.info("%s", note)


def _finish(
    plan: Plan, loop: Loop, files: RunFolder | None, wall_seconds: float, means: dict[str, Any]
) -> dict[str, Any]:
    """Write the last weights, the result and the curves."""
    final = loop.position.final or {}
    result = {
        "model": plan.config["model"],
        "identity_divisor": plan.config["identity_divisor"],
        "seed": plan.config["seed"],
        "recipe": plan.config["recipe"],
        "data": plan.config["data"],
        "epochs_done": loop.position.epoch,
        "stopped_early": loop.position.epoch < plan.recipe.all_epochs,
        "best_metric": plan.recipe.best_metric,
        "best": loop.position.best,
        "final": {"raw": final.get("raw"), "ema": final.get("ema")},
        "train_seconds": round(loop.position.train_seconds, 2),
        "images_per_second": round(loop.position.images / loop.position.train_seconds, 2),
        "last_process_seconds": round(wall_seconds, 2),
        "peak_memory_mib": _peak_memory_mib(),
        "processes": loop.ranks.world,
        **means,
        "unreadable": loop.feeder.unreadable,
        "run_sha256": plan.digest,
        "warnings": list(plan.warnings),
        **origin(plan.config.get("started") or now()),  # runs of earlier versions do not know when they began
        "environment": plan.config["environment"],
    }
    if files:
        write_weights_of(plan, loop.network, loop.weights(), "raw", files.folder / LAST)
        if loop.average:
            write_weights_of(plan, loop.network, loop.averaged_weights(), "ema", files.folder / LAST_EMA)
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
    from mobilenext.runs.curves import write_curves
    from mobilenext.runs.training_run import read_run

    try:
        write_curves([read_run(folder)], folder / CURVES)
    except MissingDependency as missing:
        log.info("no picture of the curves: %s", missing)


def _peak_memory_mib() -> float:
    """Of this process; on a GPU, of the device."""
    import paddle

    if paddle.device.get_device().startswith("gpu"):
        return float(round(paddle.device.cuda.max_memory_allocated() / 2**20, 1))
    return round(peak_memory_mib(), 1)


@contextlib.contextmanager
def _visualdl(folder: Path) -> Iterator[Any]:
    from visualdl import LogWriter

    with LogWriter(str(folder / "visualdl")) as writer:
        yield writer
