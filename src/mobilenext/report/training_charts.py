"""Charts of training runs: the metric of the validation, loss and learning rate against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import PICK, TIP, Chart, axis, chart_spec, colored, unless_picked
from mobilenext.report.training_report import with_counts
from mobilenext.runs.comparison import comparison, task_of
from mobilenext.runs.training_run import KINDS, TrainingRun

MOST_STEPS = 600  # points of a training curve: more than a screen shows


def training_charts(runs: Sequence[TrainingRun]) -> list[Chart]:
    """Return charts of the validation metric, the loss and the learning rate against the epoch."""
    if not runs:
        return []
    names, metric, charts = [run.name for run in runs], task_of(runs).metric, []
    validations = [point for run in runs for point in _validations(run)]
    if validations:
        text = (
            f"Validation {metric.display} against the epoch; solid: the weights as trained, dashed: their moving "
            "average (EMA). A ring marks the best epoch."
        )
        spec = _curve(text, validations, names, metric.axis, dashes=True)
        spec["layer"].append(_best_mark([point for run in runs for point in _best(run)], names))
        title = f"validation {metric.display}"
        head = ["run", "epoch", "training loss", f"{title}, raw", f"{title}, EMA"]
        charts.append(Chart(f"Validation {metric.display}", text, spec, head, _table(runs)))
    loss = [point for run in runs for point in _steps(run, "loss")]
    if loss:
        text = "Training loss against the epoch, a value for each line of the log."
        charts.append(Chart("Training loss", text, _curve(text, loss, names, "loss")))
        rates = [point for run in runs for point in _steps(run, "lr")]
        text = "Learning rate against the epoch."
        charts.append(Chart("Learning rate", text, _curve(text, rates, names, "learning rate")))
    return charts


def _validations(run: TrainingRun) -> list[dict[str, Any]]:
    """Return a point for each validation of the weights and of their average."""
    points = []
    for kind in KINDS:
        for at, counts in run.validations(kind).items():
            measured = run.measured(counts)
            note = f" ({measured.note} {run.task.metric.symbol})" if measured.note else ""
            tip = f"{run.name}, epoch {at}, {kind} weights: {measured.text}{note}"
            points.append({"run": run.name, "epoch": at, "value": measured.value, "weights": kind, "tip": tip})
    return points


def _best(run: TrainingRun) -> list[dict[str, Any]]:
    """Return the point of the best validation, with what stands beside it."""
    best = comparison([run])["runs"][0]["best"]
    if not best:
        return []
    text = run.measured(best).text
    tip = f"{run.name}, best: {text} after epoch {best['epoch']}, {best['kind']} weights"
    return [{"run": run.name, "epoch": best["epoch"], "value": run.measured(best).value, "text": text, "tip": tip}]


def _best_mark(values: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return a layer of rings around the best points, with their values above them."""
    at = {"x": {"field": "epoch", "type": "quantitative"}, "y": {"field": "value", "type": "quantitative"}}
    at |= {"color": colored(names), "tooltip": TIP}
    ring = {"type": "point", "size": 170, "strokeWidth": 2.5, "filled": False}
    text = {"type": "text", "dy": -16, "fontWeight": 600}
    layers: list[dict[str, Any]] = [{"mark": ring, "encoding": at}]
    if len(values) == 1:  # of several the texts would meet
        layers.append({"mark": text, "encoding": {**at, "text": {"field": "text"}}})
    return {"data": {"values": list(values)}, "layer": layers}


def _steps(run: TrainingRun, field: str) -> list[dict[str, Any]]:
    """Return a point for each row of the log, or for up to MOST_STEPS of them."""
    points = []
    for epoch, value in _thinned(run.points(field)):
        at = round(epoch, 4)
        points.append({"run": run.name, "epoch": at, "value": value})
        points[-1]["tip"] = f"{run.name}, epoch {at:.2f}: {value:.4g}"
    return points


def _table(runs: Sequence[TrainingRun]) -> list[list[str]]:
    """Return a table row for each epoch of each run."""
    return [
        [run.name, str(row["epoch"]), "-" if row["train_loss"] is None else f"{row['train_loss']:.4f}"]
        + [_validated(run, row, kind) for kind in KINDS]
        for run in runs
        for row in run.epochs
    ]


def _validated(run: TrainingRun, row: Mapping[str, Any], kind: str) -> str:
    counts = (row["val"] or {}).get(kind)
    return with_counts(run.measured(counts)) if counts else "-"


def _thinned(rows: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return up to MOST_STEPS points, evenly spaced, the last among them."""
    step = -(-len(rows) // MOST_STEPS)
    return rows[:: -step or None][::-1] if step > 1 else rows


def _curve(
    description: str, values: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, *, dashes: bool = False
) -> dict[str, Any]:
    at = {"x": axis("epoch", "epoch", axis={"tickMinStep": 1}), "y": axis("value", title), "color": colored(names)}
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
