"""Charts of training runs: validation accuracy, loss and learning rate against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import PICK, TIP, Chart, axis, chart_spec, coloured, unless_picked
from mobilenext.report.training_report import KINDS, Run, evaluated, percent_of
from mobilenext.statistics import wilson_percent

MOST_STEPS = 600  # points of a training curve: more than a screen shows


def training_charts(runs: Sequence[Run]) -> list[Chart]:
    """Loss, validation top-1 and learning rate against the epoch."""
    names = [run.name for run in runs]
    loss, top1, rate = [], [], []
    for run in runs:
        for row in _thinned(run.steps):
            epoch = round(row["global_step"] / run.config["steps_per_epoch"], 4)
            tip = f"{run.name}, epoch {epoch:.2f}"
            loss.append({"run": run.name, "epoch": epoch, "value": row["loss"], "tip": f"{tip}: {row['loss']:.4g}"})
            rate.append({"run": run.name, "epoch": epoch, "value": row["lr"], "tip": f"{tip}: {row['lr']:.4g}"})
        for kind in KINDS:
            for at, counts in evaluated(run, kind).items():
                low, high = wilson_percent(counts["correct_top1"], counts["images"])
                share, fraction = percent_of(counts), f"{counts['correct_top1']:,}/{counts['images']:,}"
                top1.append({"run": run.name, "epoch": at, "value": share, "weights": kind})
                top1[-1]["tip"] = (
                    f"{run.name}, epoch {at}, {kind} weights: {share:.2f} % ({fraction}; 95 %: {low:.2f} to "
                    f"{high:.2f} %)"
                )
    rows = [
        [run.name, str(row["epoch"]), "-" if row["train_loss"] is None else f"{row['train_loss']:.4f}"]
        + [_validated(row, kind) for kind in KINDS]
        for run in runs
        for row in run.epochs
    ]
    head = ["run", "epoch", "training loss", "validation top-1, raw", "validation top-1, EMA"]
    charts = []
    if top1:
        text = "Validation top-1 against the epoch; solid: the weights as trained, dashed: their moving average (EMA)."
        charts.append(Chart("Validation top-1", text, _curve(text, top1, names, "top-1, %", dashes=True), head, rows))
    if loss:
        text = "Training loss against the epoch, a value for each line of the log."
        charts.append(Chart("Training loss", text, _curve(text, loss, names, "loss")))
        text = "Learning rate against the epoch."
        charts.append(Chart("Learning rate", text, _curve(text, rate, names, "learning rate")))
    return charts


def _validated(row: Mapping[str, Any], kind: str) -> str:
    counts = (row["val"] or {}).get(kind)
    return f"{percent_of(counts):.2f} % ({counts['correct_top1']:,}/{counts['images']:,})" if counts else "-"


def _thinned(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most MOST_STEPS rows, evenly spaced, the last among them."""
    step = -(-len(rows) // MOST_STEPS)
    return rows[:: -step or None][::-1] if step > 1 else rows


def _curve(
    description: str, values: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, *, dashes: bool = False
) -> dict[str, Any]:
    at = {"x": axis("epoch", "epoch"), "y": axis("value", title), "color": coloured(names)}
    line: dict[str, Any] = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {**at, "opacity": unless_picked(1)},
    }
    if dashes:
        line["encoding"]["strokeDash"] = {
            "field": "weights",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(KINDS), "range": [[1, 0], [5, 3]]},
            "legend": {"orient": "bottom"},
        }
    dots = {
        "params": PICK,
        "mark": {"type": "point", "filled": True, "size": 45},
        "encoding": {**at, "tooltip": TIP, "opacity": unless_picked(0 if len(values) > 200 else 0.9)},
    }
    return chart_spec(description, 250 + 18 * len(names), data={"values": list(values)}, layer=[line, dots])
