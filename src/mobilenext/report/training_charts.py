"""Charts of training runs: the metric of the validation, loss and learning rate against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import PICK, TIP, Chart, axis, chart_spec, colored, epochs, unless_picked
from mobilenext.report.training_report import with_counts
from mobilenext.runs.comparison import comparison, task_of
from mobilenext.runs.training_run import KINDS, TrainingRun

LOSSES = ("training", "validation")
MOST_STEPS = 600  # points of a training curve: more than a screen shows


def training_charts(runs: Sequence[TrainingRun]) -> list[Chart]:
    """Return charts of the validation metric, the loss and the learning rate against the epoch."""
    if not runs:
        return []
    names, metric, charts = [run.name for run in runs], task_of(runs).metric, []
    validations = [point for run in runs for point in _validations(run)]
    if validations:
        averaged = any(point["kind"] != KINDS[0] for point in validations)
        kinds = "; solid: the weights as trained, dashed: their moving average (EMA)" if averaged else ""
        text = f"Validation {metric.display} against the epoch{kinds}. A ring marks the best epoch."
        spec = _curve(text, validations, names, metric.axis, dashes=KINDS if averaged else ())
        spec["layer"].append(_best_mark([point for run in runs for point in _best(run)], names))
        title = f"validation {metric.display}"
        head = ["run", "epoch", "training loss", "validation loss", f"{title}, raw", f"{title}, EMA"]
        charts.append(Chart(f"Validation {metric.display}", text, spec, head, _table(runs)))
    loss = [point for run in runs for point in _points(run, "loss", run.losses())]
    if loss:
        text = "Training loss against the epoch: the mean of each row of the log, at the middle of its steps."
        validated = [point for run in runs for point in _validation_loss(run)]
        if validated:
            text = text.replace("Training loss", "Loss", 1).replace(": the mean", "; solid, training: the mean")
            text += (
                " Dashed: validation of the weights as trained, at the end of its epoch. It has no augmentation and no "
                "label smoothing, and may be lower."
            )
            loss = [{**point, "kind": LOSSES[0]} for point in loss] + validated
        title = "Loss" if validated else "Training loss"
        charts.append(Chart(title, text, _curve(text, loss, names, "loss", dashes=LOSSES if validated else ())))
        rates = [point for run in runs for point in _points(run, "learning rate", run.rates())]
        text = "Learning rate against the epoch."
        charts.append(Chart("Learning rate", text, _curve(text, rates, names, "learning rate")))
    return charts


def _validation_loss(run: TrainingRun) -> list[dict[str, Any]]:
    """Return a point for each validation that measured a loss."""
    return [
        {"run": run.name, "epoch": epoch, "value": loss, "kind": LOSSES[1]}
        | {"tip": f"{run.name}, epoch {epoch}: validation loss {loss:.4g}"}
        for epoch, loss in run.validation_loss().items()
    ]


def _validations(run: TrainingRun) -> list[dict[str, Any]]:
    """Return a point for each validation of the weights and of their average."""
    points = []
    for kind in KINDS:
        for at, counts in run.validations(kind).items():
            measured = run.measured(counts)
            note = f" ({measured.note} {run.task.metric.symbol})" if measured.note else ""
            tip = f"{run.name}, epoch {at}, {kind} weights: {measured.text}{note}"
            points.append({"run": run.name, "epoch": at, "value": measured.value, "kind": kind, "tip": tip})
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


def _points(run: TrainingRun, name: str, values: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return a point for each value by its epoch, or for up to MOST_STEPS of them."""
    return [
        {"run": run.name, "epoch": round(epoch, 4), "value": value}
        | {"tip": f"{run.name}, epoch {epoch:.2f}: {name} {value:.4g}"}
        for epoch, value in _thinned(values)
    ]


def _table(runs: Sequence[TrainingRun]) -> list[list[str]]:
    """Return a table row for each epoch of each run."""
    rows = []
    for run in runs:
        losses = run.validation_loss()
        for row in run.epochs:
            both = [_loss_text(row["train_loss"]), _loss_text(losses.get(row["epoch"]))]
            rows.append([run.name, str(row["epoch"]), *both, *(_validated(run, row, kind) for kind in KINDS)])
    return rows


def _loss_text(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def _validated(run: TrainingRun, row: Mapping[str, Any], kind: str) -> str:
    counts = (row["val"] or {}).get(kind)
    return with_counts(run.measured(counts)) if counts else "-"


def _thinned(rows: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return up to MOST_STEPS points, evenly spaced, the last among them."""
    step = -(-len(rows) // MOST_STEPS)
    return rows[:: -step or None][::-1] if step > 1 else rows


def _curve(
    description: str,
    values: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    title: str,
    *,
    dashes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a line for each run; the second of the kinds in `dashes` is dashed."""
    at = {"x": epochs(values), "y": axis("value", title), "color": colored(names)}
    line: dict[str, Any] = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {**at, "opacity": unless_picked(1)},
    }
    if dashes:
        line["encoding"]["strokeDash"] = {
            "field": "kind",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(dashes), "range": [[1, 0], [5, 3]]},
            "legend": {"orient": "bottom"},
        }
    dots = {
        "params": PICK,
        "mark": {"type": "point", "filled": True, "size": 45},
        "encoding": {**at, "tooltip": TIP, "opacity": unless_picked(0 if len(values) > 200 else 0.9)},
    }
    return chart_spec(description, 250 + 18 * len(names), data={"values": list(values)}, layer=[line, dots])
