"""The curves of training runs as a picture: losses, the metric of the validation, and learning rate."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.drawing.chart import COLORS, axis, color
from mobilenext.drawing.picture import side_by_side, write_picture
from mobilenext.runs.comparison import grouped, task_of
from mobilenext.runs.training_run import KINDS, TrainingRun

WIDTH, HEIGHT = 460, 420  # pixels of a panel
WEIGHTS = dict(zip(KINDS, ("raw weights", "EMA weights"), strict=True))
LOSSES = ("training", "validation")
DASHES = [[1, 0], [6, 4]]  # of the first and of the second of WEIGHTS, and of LOSSES
Curve = Mapping[float, float]  # a value by its epoch
Layer = dict[str, Any]


def write_curves(runs: Sequence[TrainingRun], path: Path) -> None:
    """Draw the losses, the metric of the validation and the learning rate against the epoch, as .png or .svg.

    A mean of the training loss stands at the middle of its steps, what a validation measured at the end of its epoch.

    Runs that differ only in the seed share a color: thin lines, and a thick one for their mean.

    Raises:
        MissingDependency: vl-convert is not installed.
        UsageError: another kind of picture, or runs of several tasks.
        OutputError: it cannot be written.
    """
    write_picture(curves(runs), path, extra="train", purpose="the picture of the curves")


def curves(runs: Sequence[TrainingRun]) -> dict[str, Any]:
    """Return the three panels as a Vega-Lite specification."""
    groups = grouped(runs)
    names = [f"{group}, {_seeds(members)}" for group, members in groups.items()]
    teams = list(groups.values())
    thin = "rows of the log, single seeds" if any(run.steps for run in runs) else "single seeds"
    about = ["training: each mean at the middle of its epoch; validation: at the end", f"thin: {thin}"]
    panels = [
        _panel("loss", _loss(teams, names), about),
        _panel(f"validation {task_of(runs).metric.axis}", _validation(teams, names)),
        _panel("learning rate", _rates(teams, names)),
    ]
    return side_by_side(panels, 3, scale={"color": "shared", "strokeDash": "independent"})


def _panel(title: str, layers: Sequence[Layer], subtitle: Sequence[str] = (" ", " ")) -> dict[str, Any]:
    """Return one chart; a subtitle, though empty, keeps the titles of all panels on one line."""
    return {
        "title": {"text": title, "subtitle": list(subtitle)},
        "width": WIDTH,
        "height": HEIGHT,
        "layer": list(layers),
    }


def _loss(teams: Sequence[Sequence[TrainingRun]], names: Sequence[str]) -> list[Layer]:
    """Draw the training loss of the log's rows as a thin line, the mean of every epoch, and that of the validation."""
    rows = [
        point
        for members, name in zip(teams, names, strict=True)
        for place, run in enumerate(members)
        for point in _points(dict(run.losses()), name, place)
    ]
    training, validation = LOSSES
    validated = [[run.validation_loss() for run in members] for members in teams]
    some = any(curve for curves in validated for curve in curves)
    means = [[run.epoch_losses() for run in members] for members in teams]
    layers = _seed_lines(means, names, training if some else "", LOSSES)
    if some:
        layers += _seed_lines(validated, names, validation, LOSSES)
    return [_line(rows, names, strokeWidth=0.7, opacity=0.35), *layers]


def _validation(teams: Sequence[Sequence[TrainingRun]], names: Sequence[str]) -> list[Layer]:
    """Draw the metric of the weights, and with dashes that of their average."""
    layers = []
    for kind, weights in WEIGHTS.items():
        curves = [
            [{at: run.measured(counts).value for at, counts in run.validations(kind).items()} for run in members]
            for members in teams
        ]
        layers += _seed_lines(curves, names, weights, list(WEIGHTS.values()))
    return layers


def _rates(teams: Sequence[Sequence[TrainingRun]], names: Sequence[str]) -> list[Layer]:
    """Draw the learning rate of one run of each group.

    Equal ones lie on each other: the longest is drawn whole, the others as their share of dashes on it.
    """
    rates = [_rate(members[0]) for members in teams]
    layers, dashed = [], []
    for place, (name, rate) in enumerate(zip(names, rates, strict=True)):
        own = rate.items()
        sharing = [other for other, one in enumerate(rates) if own <= one.items() or one.items() <= own]
        points = _points(rate, name, 0)
        if place == max(sharing, key=lambda other: len(rates[other])):
            layers.append(_line(points, names, strokeWidth=_thickness(names)))
        else:
            dashes: dict[str, Any] = {
                "strokeDash": [8, 8 * len(sharing) - 8],
                "strokeDashOffset": -8 * sharing.index(place),
            }
            dashed.append(_line(points, names, strokeWidth=_thickness(names), **dashes))
    return layers + dashed


def _rate(run: TrainingRun) -> Curve:
    """Return the learning rate of the steps in the log, or of the last step of each epoch where there are none."""
    return dict(run.rates()) or {row["epoch"]: row["lr"] for row in run.epochs if row.get("lr") is not None}


def _seed_lines(
    teams: Sequence[Sequence[Curve]], names: Sequence[str], kind: str = "", kinds: Sequence[str] = ()
) -> list[Layer]:
    """Draw a thin line for each seed of each group, and a thick one for their mean where all seeds have a value.

    Args:
        teams: a curve for each seed of each group.
        names: of the groups.
        kind: of the values, one of `kinds`; none where there is one kind only.
        kinds: that have dashes of their own.
    """
    seeds, means, single = [], [], []
    for place, (curves, name) in enumerate(zip(teams, names, strict=True)):
        if len(curves) > 1:
            seeds += [point for seed, curve in enumerate(curves) for point in _points(curve, name, seed, kind)]
        shared = [at for at in curves[0] if all(at in curve for curve in curves)]
        mean = _points({at: statistics.mean(curve[at] for curve in curves) for at in shared}, name, 0, kind)
        means += mean
        if len(mean) == 1 or place >= COLORS:  # no line goes through one point; colors are used a second time
            single += mean
    layers = [_line(means, names, kinds, strokeWidth=_thickness(names))]  # also where there is nothing: axes and legend
    if seeds:
        layers.insert(0, _line(seeds, names, kinds, strokeWidth=0.9, opacity=0.7))
    if single:
        layers.append(_line(single, names, mark="point", filled=True, size=50))
    return layers


def _points(curve: Curve, name: str, seed: int, kind: str = "") -> list[dict[str, Any]]:
    """Return the points of one line."""
    line = {"run": name, "seed": seed} | ({"kind": kind} if kind else {})
    return [{"epoch": epoch, "value": value, **line} for epoch, value in curve.items()]


def _line(
    points: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    kinds: Sequence[str] = (),
    mark: str = "line",
    **look: Any,
) -> Layer:
    """Draw lines in the colors of their groups, dashed for the second of `kinds`."""
    encoding = {
        "x": axis("epoch", "epoch", axis={"grid": False}),
        "y": axis("value", "", axis={"title": None}),
        "color": {
            "field": "run",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(names), "range": [color(place) for place in range(len(names))]},
            "legend": {"orient": "bottom", "columns": _columns(names), "symbolType": "stroke", "symbolStrokeWidth": 3}
            | {"symbolOpacity": 1, "symbolSize": 600},
        },
        "detail": {"field": "seed"},
    }
    if mark == "line" and any("kind" in point for point in points):
        encoding["strokeDash"] = {
            "field": "kind",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(kinds), "range": DASHES},
            "legend": {
                "orient": "bottom",
                "symbolStrokeColor": "var(--muted)",
                "symbolType": "stroke",
                "symbolSize": 900,
            },
        }
    return {"data": {"values": list(points)}, "mark": {"type": mark, **look}, "encoding": encoding}


def _thickness(names: Sequence[str]) -> float:
    return 2.4 if len(names) < 6 else 1.7


def _columns(names: Sequence[str]) -> int:
    """Return the number of columns that makes the legend about as wide as the panels."""
    return max(1, min(4, 190 // (8 + max(map(len, names)))))


def _seeds(members: Sequence[TrainingRun]) -> str:
    seeds = ", ".join(str(run.config["seed"]) for run in members)
    unfinished = sum(run.result is None for run in members)
    of = f" ({unfinished} unfinished)" if len(members) > 1 else " (unfinished)"
    return f"seed{'s' * (len(members) > 1)} {seeds}{of * (unfinished > 0)}"
