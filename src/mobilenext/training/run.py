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
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import UsageError, refuse_unknown
from mobilenext.job import Feed, Setup
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.packages import require_paddle
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import openmp_threads, prepare_process
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.machine.stopping import defer_signals, keep_handlers
from mobilenext.runs.run_folder import BEST, CHECKPOINT, CONFIG, RESULT, RunFolder, deciding, read_config
from mobilenext.runs.setups import require_same
from mobilenext.runs.training_run import read_run
from mobilenext.runtime import resolve_device
from mobilenext.training.feeding import Feeder, fits_in_memory
from mobilenext.training.network import make_network, write_weights_of
from mobilenext.training.options import Execution, PlanOptions, TrainOptions
from mobilenext.training.outcome import describe, describe_rehearsal, finish
from mobilenext.training.plan import Plan, new_plan, resumed_plan
from mobilenext.training.state import check_state

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.training.loop import Loop

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]


def train(
    data: PathLike | None = None,
    *,
    output: PathLike | None = None,
    model: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
    weights: PathLike | None = None,
    resume: PathLike | None = None,
    **options: Unpack[TrainOptions],
) -> dict[str, Any]:
    """Train, and write everything into a folder (see `mobilenext.runs.run_folder`).

    Args:
        data: a folder with ``train_list.txt`` and ``val_list.txt``, or with ``train/`` and ``val/`` of class folders.
        output: the folder of the run, new.
        model: a model's name; with `weights` it may be left out.
        recipe: the name of a recipe (default ``released``, with weights ``finetune``). settings: texts ``key=value``
            that replace its fields. Unless they set it, a ``batch_size`` above the number of images is made to fit.
        weights: a file or a tag to begin with; None: freshly initialized.
        resume: the folder of a run, to go on with it. Of the others only `data`, where it has moved, and those options
            may be given with it that do not decide what is computed.
        options: the keywords of `mobilenext.training.options.TrainOptions`, which are described there.

    Returns:
        What is written to ``result.json``.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError: what was read.
        OutputError: what could not be written. CheckFailed: the training has diverged. PeerLost: another process ended.
        Stopped: Ctrl-C, SIGTERM, or another signal that ends a process; a KeyboardInterrupt; there is a checkpoint.
    """
    refuse_unknown(options, TrainOptions.__annotations__, "train")
    execution = _prepare_execution(options)
    planned: Any = {name: options[name] for name in options if name in PlanOptions.__annotations__}  # type: ignore[literal-required]
    if resume is None:
        if data is None or output is None:
            raise UsageError("expected a data set and an output folder, or --resume with the folder of a run")
        plan = new_plan(data, model=model, recipe=recipe, settings=settings, weights=weights, **planned)
        return _run(plan, Path(output), _checked(plan, execution), resume=False)
    begun = {"output": output, "model": model, "recipe": recipe, "settings": tuple(settings), "weights": weights}
    if needless := [name for name, value in {**begun, **planned}.items() if value not in (None, ())]:
        raise UsageError(
            f"{', '.join(needless)} cannot be changed when resuming; drop these options, or start a new run"
        )
    folder = Path(resume)
    plan = resumed_plan(read_config(folder), data, str(folder / CONFIG))
    if (folder / RESULT).is_file() and (result := read_run(folder).result) is not None:
        log.info("%s is finished already", folder)
        return result
    if (folder / CHECKPOINT).is_file():
        check_state(folder / CHECKPOINT, plan.digest, plan.task.presentation.check_counts)
    return _run(plan, folder, _checked(plan, execution), resume=True)


def _prepare_execution(options: TrainOptions) -> Execution:
    """Return how the run is carried out, and prepare this process for its number of threads."""
    threads = options.get("threads")
    chosen: Any = {name: options[name] for name in options if name not in PlanOptions.__annotations__}  # type: ignore
    chosen |= {"device": options.get("device", "auto"), "threads": openmp_threads() if threads is None else threads}
    execution = Execution(**chosen)
    if "paddle" not in sys.modules:
        prepare_process(execution.threads)
    elif threads is not None and threads != openmp_threads():
        log.warning("threads is %d, but Paddle was imported with %d, which stay", threads, openmp_threads())
    return execution


def _checked(plan: Plan, execution: Execution) -> Execution:
    """Return the execution on a device of this machine, if the plan can be carried out by it.

    Raises:
        ImageError: images are of formats that are known not to be read.
        UsageError: a device or a precision that this machine does not have, or options that exclude each other.
    """
    unreadable, recipe = list(plan.parts.train.unreadable.values()), plan.recipe
    if len(unreadable) > execution.max_unreadable:
        raise_unreadable(unreadable, f"leave them out: --max-unreadable {len(unreadable)}")
    if plan.parts.val.unreadable:
        raise_unreadable(list(plan.parts.val.unreadable.values()), "validate on others: --val-list FILE")
    device = resolve_device(execution.device)
    if recipe.sync_bn and recipe.accumulate > 1 and execution.max_unreadable:
        raise UsageError(
            "sync_bn with accumulate and max_unreadable: a process that left images out would have fewer parts than "
            "the others wait for; use --set accumulate=1"
        )
    if recipe.precision != "fp32" and device == "cpu":
        raise UsageError(
            f"precision is {recipe.precision}, which needs a GPU: Paddle's convolutions on a CPU are float32 in "
            "mixed precision, too; use --set precision=fp32"
        )
    return dataclasses.replace(execution, device=device)


def _run(plan: Plan, folder: Path, execution: Execution, *, resume: bool) -> dict[str, Any]:
    """Carry out a plan in this process, which may be one of several."""
    require_paddle()
    import paddle

    with keep_handlers():
        paddle.disable_signal_handler()  # it takes SIGTERM for a crash to report on; here it is a wish to stop
    paddle.set_device(execution.device)
    where = {**environment(), "device": execution.device, "threads": execution.threads}
    if resume:
        _warn_of_changes(plan.config["environment"], where)
    else:
        plan.config["environment"] = where
    ranks = Ranks()
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(RunFolder(folder)) if ranks.first else None
        if files and not resume:
            files.check_new()
        ranks.wait()  # no process may begin in a folder that the first one refuses
        require_same(ranks, deciding(plan.config))
        workers = _workers(plan, execution)
        pool = stack.enter_context(WorkerPool(workers)) if workers else None
        loop, compiled = _make_loop(plan, ranks, files, pool, execution)
        if execution.visualdl and files:
            loop.log.scalars = stack.enter_context(_visualdl(folder))
        describe(plan, loop, execution, f"read by {workers} processes" if workers else "kept in memory")
        if plan.task.training.rehearses and not resume:
            _rehearse(loop, ranks)
        if resume and ((folder / CHECKPOINT).is_file() or plan.config["weights"]):
            loop.restore(folder / CHECKPOINT)
            if files:
                files.keep_log_until(loop.position.global_step, loop.position.epoch)
            log.info("resumed: epoch %d, step %d", loop.position.epoch + 1, loop.position.step)
        elif files:
            files.begin(plan.config, plan.parts.lists)
            loop.save()
        started = time.perf_counter()
        loop.run()
        means = {
            "device": execution.device,
            "threads": execution.threads,
            "workers": workers,
            "compiled_depthwise": compiled,
            "to_static": execution.to_static,
        }
        return finish(plan, loop, files, time.perf_counter() - started, means)


def _workers(plan: Plan, execution: Execution) -> int:
    """Return the number of processes that read images."""
    if execution.workers is not None:
        return execution.workers
    records = (*plan.parts.train.records, *plan.parts.val.records)
    if execution.device == "cpu" and fits_in_memory(records):
        return plan.task.training.workers
    return max(1, min(8, available_cores()) // launched_here())


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn of another machine, other versions or other threads: the run goes on, and with other bits."""
    passing = ("load_average", "cores", "memory_gib", "governor")
    changes = [
        f"{name}: {before.get(name)} before, {value}"
        for name, value in now.items()
        if before.get(name) != value and name not in passing
    ]
    if changes:
        log.warning("the run began elsewhere, and its bits may differ from here on: %s", "; ".join(changes))


def _make_loop(
    plan: Plan, ranks: Ranks, files: RunFolder | None, pool: WorkerPool | None, execution: Execution
) -> tuple[Loop, bool]:
    """Return the loop, and whether its depthwise convolutions are compiled."""
    from mobilenext.training.loop import Loop, Records
    from mobilenext.training.stepper import GradientStep
    from mobilenext.training.validation import Validation

    recipe, job = plan.recipe, plan.job
    feed = Feed(plan.config["seed"], recipe.batch_size, ranks.rank, ranks.world, execution.max_unreadable)
    feeder = Feeder(plan.parts.train.records, job, feed, pool)
    validation = Validation(
        plan.parts.val.records, job, plan.task.evaluation, plan.config,
        batch_size=recipe.batch_size // recipe.accumulate // ranks.world or 1, ranks=ranks, pool=pool,
    )  # fmt: skip
    network, compiled = make_network(plan, ranks, execution.device, to_static=execution.to_static)

    def keep_best(tensors: Mapping[str, Any], kind: str) -> None:
        if files:
            write_weights_of(plan, network, tensors, kind, files.folder / BEST)

    setup = Setup(recipe, job, ranks, feed, pool, plan.task.training.begin_epoch)
    make_stepper = plan.task.training.stepper
    stepper = make_stepper(setup, network, plan.parts) if make_stepper else GradientStep(setup, network)
    records = Records(
        files, plan.digest, plan.task.presentation.check_counts, execution.log_every, execution.save_every,
        plan.task.training.verb,
    )  # fmt: skip
    return Loop(setup, network, stepper, feeder, validation, records, keep_best), compiled


def _rehearse(loop: Loop, ranks: Ranks) -> None:
    """Measure a step before the first one, and say what the run will take."""
    from mobilenext.training.rehearsal import rehearse

    with defer_signals():  # Paddle would make an error of its own of a stop within a backward pass
        rehearsal = rehearse(loop.network, loop.recipe, ranks.world)
    describe_rehearsal(loop, rehearsal)


@contextlib.contextmanager
def _visualdl(folder: Path) -> Iterator[Any]:
    from visualdl import LogWriter

    with LogWriter(str(folder / "visualdl")) as writer:
        yield writer
