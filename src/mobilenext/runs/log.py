"""The log of a training run: lines on the screen, rows of ``log.jsonl``, scalars for VisualDL."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mobilenext.job import EpochReport, Job
from mobilenext.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
_NOTHING = EpochReport()


@dataclass
class Sums:
    """Sums over training images; nothing is divided before it is shown."""

    loss: float = 0.0
    counted: dict[str, float] = field(default_factory=dict)  # what the task counts, by its names
    images: int = 0
    seconds: float = 0.0
    reader_seconds: float = 0.0  # that the loop waited for images
    steps: int = 0

    def add(self, other: Sums) -> None:
        """Add the sums of other images to these."""
        self.loss += other.loss
        for name, value in other.counted.items():
            self.counted[name] = self.counted.get(name, 0) + value
        self.images += other.images
        self.seconds += other.seconds
        self.reader_seconds += other.reader_seconds
        self.steps += other.steps


@dataclass(frozen=True)
class Moment:
    """Where the run stands when a row is written."""

    epoch: int  # the one under way, from 0
    step: int  # finished steps of it
    global_step: int  # finished steps of the run
    rate: float  # learning rate of the last step
    seconds_left: float = 0.0  # of training, as far as can be told


class RunLog:
    """Writes the log of one run; rows are written by the process that has the folder."""

    def __init__(self, job: Job, epochs: int, steps_per_epoch: int, folder: RunFolder | None) -> None:
        self.scalars: Any = None  # something with add_scalar(tag, value, step)
        self._job, self._epochs, self._steps, self._folder = job, epochs, steps_per_epoch, folder

    def steps(self, moment: Moment, window: Sums) -> None:
        """Log the steps since the last row, whose sums are `window`."""
        speed, measures = _speed(window), self._job.measures(window.counted, window.images)
        row: dict[str, Any] = {
            "event": "step",
            "epoch": moment.epoch + 1,
            "step": moment.step,
            "global_step": moment.global_step,
            "loss": window.loss / window.images,
            **measures,
            "lr": moment.rate,
            **speed,
        }
        log.info(
            "epoch %d/%d, step %d/%d, loss: %.4f, %s, lr: %.6f, avg_reader_cost: %.5f s, "
            "avg_batch_cost: %.5f s, avg_ips: %.2f images/s, training left: %s",
            row["epoch"], self._epochs, moment.step, self._steps, row["loss"], self._job.describe_measures(measures),
            moment.rate, speed["reader_cost"], speed["batch_cost"], speed["images_per_second"],
            datetime.timedelta(seconds=round(moment.seconds_left)),
        )  # fmt: skip
        self._write(row)
        self._draw(row["global_step"], {f"train/{name}": row[name] for name in ("loss", *measures, "lr")})
        self._draw(row["global_step"], {"train/images_per_second": speed["images_per_second"]})

    def epoch(
        self, moment: Moment, sums: Sums, summaries: Mapping[str, Mapping[str, Any]], report: EpochReport = _NOTHING
    ) -> None:
        """Log an epoch, whose sums are `sums`, the summaries of its validation of the raw and EMA weights, and what the
        stepper reports of it."""
        for kind, summary in summaries.items():
            log.info(
                "epoch %d/%d, validation (%s): %s",
                moment.epoch + 1, self._epochs, kind, self._job.describe_summary(summary),
            )  # fmt: skip
        measures = self._job.measures(sums.counted, sums.images)
        self._write(
            {
                "event": "epoch",
                "epoch": moment.epoch + 1,
                "global_step": moment.global_step,
                "lr": moment.rate,
                "train_loss": sums.loss / sums.images,
                **{f"train_{name}": value for name, value in measures.items()},
                "seconds": round(sums.seconds, 3),
                **_speed(sums),
                "val": summaries or None,
                **report.fields,
            }
        )
        for line in report.lines:
            log.info("epoch %d/%d, %s", moment.epoch + 1, self._epochs, line)
        for kind, summary in summaries.items():
            scalars = {f"validation/{kind}_{name}": summary[name] for name in self._job.scalars}
            self._draw(moment.global_step, scalars)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._folder:
            self._folder.log(row)

    def _draw(self, global_step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items() if self.scalars else ():
            self.scalars.add_scalar(name, value, global_step)


def _speed(sums: Sums) -> dict[str, float]:
    """Return images a second, and the seconds that a step waited for images and took in all."""
    return {
        "images_per_second": round(sums.images / sums.seconds, 2),
        "reader_cost": round(sums.reader_seconds / sums.steps, 5),
        "batch_cost": round(sums.seconds / sums.steps, 5),
    }
