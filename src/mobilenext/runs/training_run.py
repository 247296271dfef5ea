"""A training run as it lies in its folder, finished or not: the one reader of its configuration, log and result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError, UsageError
from mobilenext.json_files import (
    Check,
    check,
    nullable,
    number,
    optional,
    parse,
    read_json,
    read_lines,
    record,
    text,
    whole,
)
from mobilenext.presentation import Measured
from mobilenext.runs.run_folder import CONFIG, LOG_LINES, RESULT, read_config
from mobilenext.task import Task
from mobilenext.tasks import find_task

KINDS = ("raw", "ema")  # the weights as trained, and their moving average
_REMEDY = "restore the file, or leave this run out"
_SECONDS, _SPEED, _RATE = number(0, 1e12), number(0, 1e12), number(-1e12, 1e12)
_LOSS = number(-1e12, 1e12, finite=False)  # of a run that has diverged
_CONFIG = {
    "task": optional(text()),
    **dict.fromkeys(("model", "recipe.name"), text()),
    "seed": whole(0),
    **dict.fromkeys(("identity_divisor", "steps_per_epoch", "epochs"), whole(1)),
    "data": record({}),
}
_STEP = record({"global_step": whole(0), "loss": _LOSS, "lr": _RATE})
_EVENT = record({"event": text("step", "epoch")})


@dataclass(frozen=True)
class TrainingRun:
    """One training run; `result` is None until it is finished."""

    folder: Path
    name: str
    config: dict[str, Any]
    steps: list[dict[str, Any]]  # rows of the log
    epochs: list[dict[str, Any]]
    result: dict[str, Any] | None

    @property
    def task(self) -> Task:
        """Return the task that was trained."""
        return find_task(self.config.get("task"))

    def validations(self, kind: str) -> dict[float, dict[str, Any]]:
        """Return the counts by the epoch after which these weights, ``raw`` or ``ema``, were evaluated."""
        return {row["epoch"]: row["val"][kind] for row in self.epochs if row["val"] and row["val"].get(kind)}

    def measured(self, counts: Mapping[str, Any]) -> Measured:
        """Return the task's metric from such counts."""
        return self.task.presentation.measured(counts)

    def validation_loss(self) -> dict[float, float]:
        """Return the loss of the weights as trained, by the epoch after which it was measured; none in some tasks."""
        losses = {epoch: counts.get("loss") for epoch, counts in self.validations("raw").items()}
        return {epoch: loss for epoch, loss in losses.items() if isinstance(loss, int | float)}

    def losses(self) -> list[tuple[float, float]]:
        """Return the training loss of the step rows against the epoch, in fractions of it.

        A row has the mean over the steps since the row before it: it belongs to the middle of them.
        """
        ends = [row["global_step"] for row in self.steps]
        middles = [(start + end) / 2 for start, end in zip([0, *ends], ends, strict=False)]
        steps = self.config["steps_per_epoch"]
        return [(middle / steps, row["loss"]) for middle, row in zip(middles, self.steps, strict=True)]

    def epoch_losses(self) -> dict[float, float]:
        """Return the mean training loss of each epoch, at the middle of the epoch: a validation comes at its end."""
        return {row["epoch"] - 0.5: row["train_loss"] for row in self.epochs if row["train_loss"] is not None}

    def rates(self) -> list[tuple[float, float]]:
        """Return the learning rate of the last step of each step row against the epoch, in fractions of it."""
        return [(row["global_step"] / self.config["steps_per_epoch"], row["lr"]) for row in self.steps]


def read_run(folder: Path, name: str | None = None) -> TrainingRun:
    """Read the folder of a training run, finished or not; a last line of the log that a kill cut is left out.

    Args:
        folder: that was trained into.
        name: of the run; None is that of the folder.

    Raises:
        DataError: there is no run, or one of its files is damaged; with the file and the line.
    """
    config = read_config(folder, _CONFIG, remedy=_REMEDY)
    try:
        counts = find_task(config.get("task")).presentation.check_counts
    except UsageError as error:
        raise DataError(f"{folder / CONFIG}: {error}; {_REMEDY}") from error
    validation = record({"raw": counts, "ema": optional(counts)})
    steps, epochs = _read_log(folder / LOG_LINES, _epoch(validation))
    result = folder / RESULT
    finished = read_json(result, _result(counts, validation), remedy=_REMEDY) if result.exists() else None
    return TrainingRun(folder, name or folder.resolve().name, config, steps, epochs, finished)


def _epoch(validation: Check) -> Check:
    return record(
        {
            "epoch": whole(0),
            "lr": optional(_RATE),
            "train_loss": nullable(_LOSS),
            "seconds": _SECONDS,
            "images_per_second": nullable(_SPEED),
            "val": nullable(validation),
        }
    )


def _result(counts: Check, validation: Check) -> Check:
    best = record({"epoch": whole(0), "kind": text()})

    def check_best(value: Any, field: str) -> None:
        counts(value, field)
        best(value, field)

    return record({"best": check_best, "final": validation, "images_per_second": _SPEED, "train_seconds": _SECONDS})


def _read_log(path: Path, epoch: Check) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of steps and of epochs."""
    rows: dict[str, list[dict[str, Any]]] = {"step": [], "epoch": []}
    for line, content in read_lines(path, remedy=_REMEDY) if path.exists() else ():
        if content.endswith(b"\n"):
            row, where = parse(content, str(path), line, remedy=_REMEDY, numbers=False), f"{path}: line {line}"
            check(row, _EVENT, where, remedy=_REMEDY)
            check(row, {"step": _STEP, "epoch": epoch}[row["event"]], where, remedy=_REMEDY)
            rows[row["event"]].append(row)
    return rows["step"], rows["epoch"]
