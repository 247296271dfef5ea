"""Charts of evaluations: calibration, confusion, latency, and runs against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.classification.analysis import Bin, Confusion
from mobilenext.drawing.chart import TIP, Chart, axis, chart_spec, coloured, shaped
from mobilenext.report.inputs import Evaluation
from mobilenext.statistics import percent, wilson_percent


def reliability(bins: Sequence[Bin], error: float | None) -> Chart:
    """Accuracy against confidence, a bar with its interval for each bin, and the diagonal of perfect calibration."""
    values, rows = [], []
    for one in bins:
        if not one.images:
            continue
        low, high = wilson_percent(one.correct, one.images)
        accuracy, mean = percent(one.correct, one.images), 100 * one.confidence_sum / one.images
        span = f"{100 * one.low:.1f} to {100 * one.high:.1f} %"
        rows.append(
            [
                *(span, f"{one.images:,}", f"{one.correct:,}", f"{accuracy:.2f} %", f"{low:.2f} to {high:.2f} %"),
                *(f"{mean:.2f} %", f"{accuracy - mean:+.2f}"),
            ]
        )
        tip = (
            f"confidence {span}: {accuracy:.2f} % correct ({one.correct:,}/{one.images:,}; 95 %: {low:.2f} to "
            f"{high:.2f} %), mean confidence {mean:.2f} %"
        )
        values.append(
            {"left": 100 * one.low, "right": 100 * one.high, "middle": 50 * (one.low + one.high), "accuracy": accuracy}
            | {"low": low, "high": high, "mean": round(mean, 3), "tip": tip}
        )
    full = {"domain": [0, 100], "nice": False}
    y = {"type": "quantitative", "title": "correct, %", "scale": full}
    said = "no images" if error is None else f"expected calibration error {100 * error:.2f} %"
    description = f"Reliability diagram: share of correct images against confidence in {len(bins)} bins; {said}."
    spec = chart_spec(
        description,
        240,
        data={"values": values},
        layer=[
            {
                "mark": {"type": "bar", "color": "var(--right)", "opacity": 0.75, "binSpacing": 1},
                "encoding": {
                    "x": axis("left", "confidence, %", scale=full, bin={"binned": True}),
                    "x2": {"field": "right"},
                    "y": {**y, "field": "accuracy"},
                    "tooltip": TIP,
                },
            },
            {
                "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1.2},
                "encoding": {
                    "x": {"field": "middle", "type": "quantitative"},
                    "y": {**y, "field": "low"},
                    "y2": {"field": "high"},
                    "tooltip": TIP,
                },
            },
            {
                "data": {"values": [{"x": 0, "y": 0}, {"x": 100, "y": 100}]},
                "mark": {"type": "line", "color": "var(--wrong)", "strokeDash": [5, 4], "strokeWidth": 1.8},
                "encoding": {
                    "x": {"field": "x", "type": "quantitative"},
                    "y": {"field": "y", "type": "quantitative"},
                },
            },
        ],
    )
    head = ["confidence", "images", "correct", "accuracy", "95 % interval", "mean confidence", "difference, points"]
    return Chart("Reliability", description, spec, head, rows)


def confidence_histogram(bins: Sequence[Bin]) -> Chart:
    """How many images have which confidence, correct and wrong ones stacked."""
    values, rows = [], []
    for one in bins:
        span, wrong = f"{100 * one.low:.0f} to {100 * one.high:.0f} %", one.images - one.correct
        rows.append([span, f"{one.images:,}", f"{one.correct:,}", f"{wrong:,}"])
        for kind, order, count in (("correct", 0, one.correct), ("wrong", 1, wrong)):
            tip = f"confidence {span}: {count:,} {kind} of {one.images:,} images"
            values.append({"left": 100 * one.low, "right": 100 * one.high, "images": count, "kind": kind})
            values[-1] |= {"order": order, "tip": tip}
    description = "Histogram of the confidence in the best class, correct and wrong images stacked."
    spec = chart_spec(
        description,
        240,
        data={"values": values},
        mark={"type": "bar", "binSpacing": 1},
        encoding={
            "x": axis("left", "confidence, %", scale={"domain": [0, 100], "nice": False}, bin={"binned": True}),
            "x2": {"field": "right"},
            "y": {"field": "images", "type": "quantitative", "title": "images", "stack": "zero"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["correct", "wrong"], "range": ["var(--right)", "var(--wrong)"]},
                "legend": {"orient": "top"},
            },
            "order": {"field": "order"},
            "tooltip": TIP,
        },
    )
    return Chart("Confidence", description, spec, ["confidence", "images", "correct", "wrong"], rows)


def confusion_matrix(evaluation: Evaluation, pairs: Sequence[Confusion], most: int = 20) -> Chart | None:
    """The classes of the most frequent confusions against each other; all of them where they are few."""
    classes: list[int] = []
    if evaluation.result["num_classes"] <= most:
        classes = list(range(evaluation.result["num_classes"]))
    for pair in pairs:
        for one in (pair.label, pair.predicted):
            if len(classes) < most and one not in classes:
                classes.append(one)
    if not pairs:
        return None
    classes.sort()
    place = {number: at for at, number in enumerate(classes)}
    labels = evaluation.labels[evaluation.readable]
    best = evaluation.best[evaluation.readable, 0]
    counts = np.zeros((len(classes), len(classes)), np.int64)
    totals = [int((labels == number).sum()) for number in classes]
    for number in classes:
        for predicted, count in zip(*np.unique(best[labels == number], return_counts=True), strict=True):
            if int(predicted) in place:
                counts[place[number], place[int(predicted)]] = count
    names = [_axis_name(evaluation, number) for number in classes]
    ids = [str(number) for number in classes]  # across there is no room for names
    values = []
    for row, column in np.argwhere(counts):
        count, total = int(counts[row, column]), totals[row]
        tip = f"{names[row]} taken for {names[column]}: {count:,} of {total:,} images"
        if row == column:
            tip = f"{names[row]} recognised: {count:,} of {total:,} images"
        values.append({"label": names[row], "predicted": ids[column], "share": round(count / total, 4)})
        values[-1] |= {"images": count, "kind": "correct" if row == column else "wrong", "tip": tip}
    which = "all classes" if len(classes) == evaluation.result["num_classes"] else "the classes most often confused"
    description = (
        f"Confusion matrix of {which}: the stronger the colour of a cell, the larger its share of the row's images."
    )
    look = {"labelLimit": 130, "domain": False, "ticks": False, "grid": False, "labelOverlap": False}
    upright = len(ids) * max(map(len, ids)) > 24
    counted = len(classes) <= 12  # there is room for numbers, which need a paler ground
    place_of = {
        "x": {"field": "predicted", "type": "nominal", "title": "predicted class", "scale": {"domain": ids}}
        | {"axis": {**look, "labelAngle": -90 if upright else 0, "orient": "top"}},
        "y": {"field": "label", "type": "nominal", "title": "label", "scale": {"domain": names}, "axis": look},
    }
    cell = {
        "mark": {"type": "rect", "stroke": "var(--card)", "strokeWidth": 1},
        "encoding": {
            "color": {
                "field": "kind",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["correct", "wrong"], "range": ["var(--right)", "var(--wrong)"]},
                "legend": None,
            },
            "opacity": {
                "field": "share",
                "type": "quantitative",
                "scale": {"type": "pow", "exponent": 0.6, "domain": [0, 1], "range": [0.08, 0.6 if counted else 1]},
                "legend": None,
            },
            "tooltip": TIP,
        },
    }
    layers: list[dict[str, Any]] = [cell]
    if counted:
        layers.append({"mark": {"type": "text", "color": "var(--ink)", "fontSize": 11, "aria": False}})
        layers[-1]["encoding"] = {"text": {"field": "images", "format": ",d"}, "tooltip": TIP}
    height = max(180, 22 * len(classes)) + 60
    spec = chart_spec(description, height, data={"values": values}, encoding=place_of, layer=layers)
    rows = [
        [name, *(f"{count:,}" if count else "" for count in line)] for name, line in zip(names, counts, strict=True)
    ]
    return Chart(f"Matrix of {which}", description, spec, ["label \\ predicted", *ids], rows)


def _axis_name(evaluation: Evaluation, number: int) -> str:
    """The id, and the name where there is another one; the id keeps equal names apart."""
    name = evaluation.names.get(number)
    return str(number) if name is None or name == str(number) else f"{number} {name[:40]}"


def latency_histogram(samples: Sequence[float], latency: Mapping[str, Any], domain: tuple[float, float]) -> Chart:
    """How long the calls took; `domain` is shared by the runs of a page, so that they can be compared by eye."""
    low, high = domain
    edges = np.linspace(low, high, 41)
    counts, _ = np.histogram(samples, edges)
    above = sum(sample > high for sample in samples)
    rows: list[list[str]] = []
    values: list[dict[str, Any]] = []
    for k in np.flatnonzero(counts):
        span = f"{edges[k]:.3f} to {edges[k + 1]:.3f} ms"
        rows.append([span, str(counts[k])])
        values.append({"left": float(edges[k]), "right": float(edges[k + 1]), "calls": int(counts[k])})
        values[-1] |= {"tip": f"{span}: {counts[k]} of {len(samples)} calls"}
    marks = [
        {"x": latency[key], "name": name, "tip": f"{name}: {latency[key]:.3f} ms"}
        for key, name in (("p10", "p10"), ("median", "median"), ("p90", "p90"))
    ]
    description = (
        f"Histogram of {len(samples)} timed calls: median {latency['median']:.3f} ms, p10 {latency['p10']:.3f}, "
        f"p90 {latency['p90']:.3f}."
    )
    if above:
        description += f" {above} calls above {high:.3f} ms are not drawn; the slowest took {max(samples):.3f} ms."
        rows.append([f"above {high:.3f} ms", str(above)])
    x = {"field": "x", "type": "quantitative"}
    spec = chart_spec(
        description,
        200,
        layer=[
            {
                "data": {"values": values},
                "mark": {"type": "bar", "color": "var(--c1)", "opacity": 0.8, "binSpacing": 0.5},
                "encoding": {
                    "x": axis(
                        "left", "milliseconds", scale={"domain": [low, high], "nice": False}, bin={"binned": True}
                    ),
                    "x2": {"field": "right"},
                    "y": {"field": "calls", "type": "quantitative", "title": "calls"},
                    "tooltip": TIP,
                },
            },
            {
                "data": {"values": marks},
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1.4},
                "encoding": {"x": x, "tooltip": TIP},
            },
            {
                "data": {"values": [marks[1]]},
                "mark": {
                    "type": "text",
                    "align": "left",
                    "dx": 4,
                    "dy": -4,
                    "baseline": "bottom",
                    "color": "var(--ink)",
                },
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "name"}},
            },
        ],
    )
    return Chart("Latency", description, spec, ["milliseconds", "calls"], rows)


def accuracy_latency(evaluations: Sequence[Evaluation]) -> Chart | None:
    """Top-1 against the median latency of one image, with the intervals of both; two runs at least."""
    if len(evaluations) < 2:
        return None
    values, rows = [], []
    for run in evaluations:
        result, latency = run.result, run.result["latency"]
        low, high = result["top1_interval_percent"]
        span = f"{latency['p10']:.2f} to {latency['p90']:.2f}"
        tip = (
            f"{run.name}: top-1 {result['top1_percent']:.2f} % (95 %: {low:.2f} to {high:.2f} %), "
            f"{latency['median']:.2f} ms (p10 to p90: {span} ms)"
        )
        values.append({"run": run.name, "ms": latency["median"], "p10": latency["p10"], "p90": latency["p90"]})
        values[-1] |= {"top1": result["top1_percent"], "low": low, "high": high, "tip": tip}
        rows.append([run.name, f"{latency['median']:.3f}", span, f"{result['top1_percent']:.3f}"])
        rows[-1].append(f"{low:.2f} to {high:.2f}")
    names = [run.name for run in evaluations]
    description = (
        "Top-1 against milliseconds for one image: a point for each run, lines for 95 % interval and p10 to p90."
    )
    x, y = axis("ms", "milliseconds for one image"), axis("top1", "top-1, %")
    ends = {"color": coloured(names), "tooltip": TIP}
    spec = chart_spec(
        description,
        260 + 18 * len(names),
        data={"values": values},
        layer=[
            {
                "mark": {"type": "rule"},
                "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, **ends},
            },
            {
                "mark": {"type": "rule"},
                "encoding": {"y": y, "x": {**x, "field": "p10"}, "x2": {"field": "p90"}, **ends},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": coloured(names), "shape": shaped(names), "tooltip": TIP},
            },
        ],
    )
    head = ["run", "median, ms", "p10 to p90, ms", "top-1, %", "95 % interval, %"]
    return Chart("Accuracy against latency", description, spec, head, rows)
