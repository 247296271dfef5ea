"""What a training run says at its beginning, and what it writes at its end."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data.resampling import expect
from mobilenext.errors import MissingDependency
from mobilenext.machine.environment import peak_memory_mib
from mobilenext.origin import now, origin
from mobilenext.runs.run_folder import (
    CURVES,
    LAST,
    LAST_EMA,
    RESULT,
    RunFolder,
    write_json,
)
from mobilenext.training.network import write_weights_of
from mobilenext.training.options import Execution
from mobilenext.training.plan import Plan

if TYPE_CHECKING:
    from mobilenext.training.loop import Loop
    from mobilenext.training.rehearsal import Rehearsal

log = logging.getLogger(__name__)


def describe(plan: Plan, loop: Loop, execution: Execution, reading: str) -> None:
    """Log what is about to be trained."""
    config, recipe, parts = plan.config, plan.recipe, plan.parts
    weights = config["weights"]
    log.info(
        "model: %s, %s, identity divisor %d, from %s",
        config["model"], plan.task.training.describe(config), config["identity_divisor"],
        " of ".join(filter(None, (weights.get("part"), weights["file"]))) if weights else f"seed {config['seed']}",
    )  # fmt: skip
    log.info("recipe: %s (%s); expected there: %s", recipe.name, recipe.source, recipe.expected)
    scaled = ""
    if recipe.batch_size != recipe.lr_batch_size:
        scaled = f" (lr {recipe.lr:g} for a batch of {recipe.lr_batch_size}, scaled linearly)"
    log.info(
        "%d epochs of %d steps, batch %d over %d processes, highest learning rate %.4g%s",
        loop.total_epochs, loop.feeder.steps_per_epoch, recipe.batch_size, loop.ranks.world, recipe.scaled_lr, scaled,
    )  # fmt: skip
    log.info(
        "data: %d training and %d validation images of %s, %s; %s, %d threads",
        len(parts.train), len(parts.val), config["data_folder"]["root"], reading, execution.device, execution.threads,
    )  # fmt: skip
    images = len(parts.train) * loop.total_epochs + len(parts.val)
    expect(images, config["preprocessing"]["interpolation"], config["preprocessing"]["image_size"])
    for note in dict.fromkeys((*parts.train.all_notes(), *parts.val.all_notes())):
        log.info("%s", note)
    for remark in parts.remarks:
        log.info("%s", remark)


def describe_rehearsal(loop: Loop, rehearsal: Rehearsal) -> None:
    """Log how long the run will take, and how much memory."""
    seconds, steps = rehearsal.seconds, loop.total_steps
    passes = loop.stepper.passes(0, steps)
    log.info(
        "to expect: %.2f s a step here (passes through the network, measured on blank images; reading, loss and "
        "validation come on top), so %s or more for %d steps; memory of the process %.0f MiB or more",
        seconds * passes / steps, datetime.timedelta(seconds=round(passes * seconds)), steps,
        rehearsal.peak_memory_mib,
    )  # fmt: skip


def finish(
    plan: Plan, loop: Loop, files: RunFolder | None, wall_seconds: float, means: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the last weights, the result and the curves, and return the result."""
    position, final = loop.position, loop.position.final or {}
    result: dict[str, Any] = {
        **{name: plan.config[name] for name in ("task", "model", "identity_divisor", "seed") if name in plan.config},
        "recipe": plan.config["recipe"],
        "data": plan.config["data"],
        "epochs_done": position.epoch,
        "stopped_early": position.epoch < loop.total_epochs,
        "best_metric": plan.recipe.objective.best_metric,
        "best": position.best,
        "final": {"raw": final.get("raw"), "ema": final.get("ema")},
        "train_seconds": round(position.train_seconds, 2),
        "images_per_second": round(position.images / position.train_seconds, 2),
        "last_process_seconds": round(wall_seconds, 2),
        "peak_memory_mib": _peak_memory_mib(),
        "processes": loop.ranks.world,
        **means,
        "unreadable": loop.feeder.unreadable,
        **loop.stepper.result(lambda: loop.validation.summary(loop.network)),
        "run_sha256": plan.digest,
        "warnings": list(plan.parts.warnings),
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
    """Return that of this process; on a GPU, that of the device."""
    import paddle

    if paddle.device.get_device().startswith("gpu"):
        return float(round(paddle.device.cuda.max_memory_allocated() / 2**20, 1))
    return round(peak_memory_mib(), 1)
