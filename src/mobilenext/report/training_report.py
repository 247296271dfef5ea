"""Training runs side by side, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.markdown import table
from mobilenext.presentation import Measured
from mobilenext.runs.comparison import comparison, is_checksum, names_of, task_of, value_text
from mobilenext.runs.training_run import TrainingRun
from mobilenext.task import Metric


def comparison_lines(runs: Sequence[TrainingRun]) -> list[str]:
    """Return the lines that `mobilenext compare` prints: the runs, their differences, and the spread over seeds."""
    task = task_of(runs)
    metric, measured = task.metric.display, task.presentation.measured
    result, names = comparison(runs), names_of(runs)
    heading = ["run", "model", "divisor", "recipe", "seed", "epochs", f"final {metric}", f"EMA {metric}", "best"]
    rows = [_cells(row, measured) for row in result["runs"]]
    lines = [table([*heading, "train loss", "images/s", "hours"], rows), ""]
    for field, values in result["differences"].items():
        texts = [value_text(value) for value in values]
        holders = {one: [name for name, value in zip(names, texts, strict=True) if value == one] for one in texts}
        start = "WARNING: not comparable, the data differ" if is_checksum(field) else "differs"
        groups = [f"{value} ({', '.join(of)})" for value, of in holders.items()]
        lines.append(f"{start}: {field}: {'; '.join(groups)}")
    lines += [f"not counted again: {name} repeats a seed of its group" for name in result["repeated"]]
    return [*lines, "", *group_lines(result, task.metric)] if result["groups"] else lines


def _cells(row: Mapping[str, Any], measured: Any) -> list[str]:
    def share(counts: Mapping[str, Any] | None) -> str:
        return with_counts(measured(counts)) if counts else "-"

    best, loss, speed = row["best"], row["train_loss"], row["images_per_second"]
    return [
        *(str(row[key]) for key in ("run", "model", "identity_divisor", "recipe", "seed")),
        f"{row['epochs_done']}/{row['epochs']}",
        *(share(row["final"].get("raw")) if row["finished"] else "unfinished", share(row["final"].get("ema"))),
        f"{measured(best).text} ({best['kind']}, epoch {best['epoch']})" if best else "-",
        *("-" if loss is None else f"{loss:.3f}", "-" if speed is None else f"{speed:.1f}"),
        f"{row['train_seconds'] / 3600:.2f}",
    ]


def with_counts(measured: Measured) -> str:
    """Return the metric with its counts, 84.00 % (252/300)."""
    return f"{measured.text} ({measured.counts})" if measured.counts else measured.text


def group_lines(result: Mapping[str, Any], metric: Metric) -> list[str]:
    """Return the groups of a comparison, numbered so that the pairs below can be short."""
    number = {(row["group"], row["kind"]): f"#{place}" for place, row in enumerate(result["groups"], 1)}
    values = (f"mean_{metric.field}", metric.difference_field("std"), f"min_{metric.field}", f"max_{metric.field}")
    rows = [
        [
            number[row["group"], row["kind"]],
            row["group"],
            row["kind"],
            str(row["n"]),
            *(f"{row[name]:.2f}" for name in values),
        ]
        for row in result["groups"]
    ]
    title = f"final {metric.display} over seeds" + (f", {metric.symbol}" if metric.symbol else "")
    lines = [table(["", title, "weights", "n", "mean", "std", "min", "max"], rows), ""]
    for pair in result["pairs"]:
        name, other = (number[pair[key], pair["kind"]] for key in ("group", "minus"))
        difference, interval = pair[metric.difference_field("difference")], "no interval without spread"
        if pair[metric.difference_field("interval")]:
            interval = "95 % (Welch): {:+.2f} to {:+.2f}".format(*pair[metric.difference_field("interval")])
        lines.append(f"{name} minus {other}: {difference:+.2f} {metric.unit}; {interval}")
    return lines
