"""What a run says while it trains: lines on the screen, rows of ``log.jsonl``, scalars for VisualDL."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import Any

from mobilenext.classification.metrics import TOP
from mobilenext.runs.run_folder import RunFolder
from mobilenext.training.recipes import Recipe, learning_rate
from mobilenext.training.state import Position, Sums

log = logging.getLogger(__name__)


class RunLog:
    """The log of one run; rows are written by the process that has the folder."""

    def __init__(self, recipe: Recipe, num_classes: int, steps_per_epoch: int, folder: RunFolder | None) -> None:
        self.scalars: Any = None  # something with add_scalar(tag, value, step)
        self._recipe, self._num_classes, self._steps, self._folder = recipe, num_classes, steps_per_epoch, folder

    def steps(self, position: Position) -> None:
        """The steps of ``position.window``, which end where the run stands."""
        window, rate = position.window, self._rate(position)
        speed = _speed(window)
        row = {
            "event": "step",
            "epoch": position.epoch + 1,
            "step": position.step,
            "global_step": position.global_step,
            "loss": window.loss / window.images,
            "top1_percent": round(100 * window.correct / window.images, 3),
            "lr": rate,
            **speed,
        }
        left = self._recipe.all_epochs * self._steps - position.global_step
        seconds = round(left * position.train_seconds / position.global_step)
        log.info(
            "epoch %d/%d, step %d/%d, loss: %.4f, top-1: %.2f %%, lr: %.6f, avg_reader_cost: %.5f s, "
            "avg_batch_cost: %.5f s, avg_ips: %.2f images/s, training left: %s",
            row["epoch"], self._recipe.all_epochs, position.step, self._steps, row["loss"], row["top1_percent"], rate,
            speed["reader_cost"], speed["batch_cost"], speed["images_per_second"], datetime.timedelta(seconds=seconds),
        )  # fmt: skip
        self._write(row)

    def epoch(self, position: Position, validated: Mapping[str, Mapping[str, Any]]) -> None:
        """The epoch of ``position.in_epoch``, and what its validation has counted."""
        sums = position.in_epoch
        for kind, counts in validated.items():
            field = f"{self._recipe.best_metric}_percent"
            chosen = f"{self._recipe.best_metric} {counts[field]:.2f} %, " if field in counts else ""
            top5 = f"top-5 {counts['top5_percent']:.2f} %, " if self._num_classes > TOP else ""  # else 100 % always
            log.info(
                "epoch %d/%d, validation (%s): top-1 %.2f %% (%d of %d), %s%sloss %.4f",
                position.epoch + 1, self._recipe.all_epochs, kind, counts["top1_percent"], counts["correct_top1"],
                counts["images"], top5, chosen, counts["loss"],
            )  # fmt: skip
        self._write(
            {
                "event": "epoch",
                "epoch": position.epoch + 1,
                "global_step": position.global_step,
                "lr": self._rate(position),
                "train_loss": sums.loss / sums.images,
                "train_top1_percent": round(100 * sums.correct / sums.images, 3),
                "seconds": round(sums.seconds, 3),
                **_speed(sums),
                "val": validated,
            }
        )

    def _rate(self, position: Position) -> float:
        """The learning rate of the last step."""
        return learning_rate(self._recipe, position.global_step - 1, self._steps)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._folder:
            self._folder.log(row)
        if self.scalars:
            for name in ("loss", "top1_percent", "lr", "images_per_second"):
                if name in row and row["event"] == "step":
                    self.scalars.add_scalar(f"train/{name}", row[name], row["global_step"])
            for kind, counts in row.get("val", {}).items():
                self.scalars.add_scalar(f"validation/{kind}_top1_percent", counts["top1_percent"], row["global_step"])


def _speed(sums: Sums) -> dict[str, float]:
    """Images a second, and the seconds a step waited for images and took in all."""
    return {
        "images_per_second": round(sums.images / sums.seconds, 2),
        "reader_cost": round(sums.reader_seconds / sums.steps, 5),
        "batch_cost": round(sums.seconds / sums.steps, 5),
    }
