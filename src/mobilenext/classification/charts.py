"""Charts of a classification: its calibration and its confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilenext.classification.analysis import Bin, Confusion, Ids
from mobilenext.classification.answers import Answers
from mobilenext.drawing.cells import share_note
from mobilenext.drawing.chart import TIP, Chart, axis, chart_spec
from mobilenext.statistics import percent, percent_text, wilson_percent

_ROOMY = 12  # classes of a matrix for whose names and numbers a phone has room
FEW = 10  # images of a bin, below which its interval would be a line over most of the chart


def reliability(bins: Sequence[Bin], error: float | None) -> Chart:
    """Return accuracy against confidence, a bar with its interval for each bin, and the line of perfect calibration."""
    values, rows = [], []
    for one in bins:
        if not one.images:
            continue
        low, high = wilson_percent(one.correct, one.images)
        accuracy, mean = percent(one.correct, one.images), 100 * one.confidence_sum / one.images
        span = f"{100 * one.low:.1f} to {100 * one.high:.1f} %"
        rows.append(
            [
                *(span, f"{one.images:,}", f"{one.correct:,}", percent_text(accuracy), f"{low:.2f} to {high:.2f} %"),
                *(percent_text(mean), f"{accuracy - mean:+.2f}"),
            ]
        )
        tip = (
            f"confidence {span}: {percent_text(accuracy)} correct ({share_note(one.correct, one.images)} %), mean "
            f"confidence {percent_text(mean)}"
        )
        values.append(
            {"left": 100 * one.low, "right": 100 * one.high, "middle": 50 * (one.low + one.high), "accuracy": accuracy}
            | {"low": low, "high": high, "mean": round(mean, 3), "few": one.images < FEW, "tip": tip}
        )
    count = "no images" if error is None else f"expected calibration error {percent_text(100 * error)}"
    description = f"Reliability diagram: share of correct images against confidence in {len(bins)} bins; {count}."
    spec = chart_spec(description, 240, data={"values": values}, layer=_reliability_layers())
    head = ["confidence", "images", "correct", "accuracy", "95 % interval", "mean confidence", "difference, points"]
    return Chart("Reliability", description, spec, head, rows)


def _reliability_layers() -> list[dict[str, Any]]:
    """Return the layers of bars for the accuracy, of their intervals, and of the diagonal."""
    full = {"domain": [0, 100], "nice": False}
    y = {"type": "quantitative", "title": "correct, %", "scale": full}
    return [
        {
            "mark": {"type": "bar", "color": "var(--right)", "binSpacing": 1},
            "encoding": {
                "opacity": {"condition": {"test": "datum.few", "value": 0.25}, "value": 0.75},
                "x": axis("left", "confidence, %", scale=full, bin={"binned": True}),
                "x2": {"field": "right"},
                "y": {**y, "field": "accuracy"},
                "tooltip": TIP,
            },
        },
        {
            "transform": [{"filter": "!datum.few"}],
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
    ]


def confidence_histogram(bins: Sequence[Bin]) -> Chart:
    """Return a histogram of how many images have which confidence, correct and wrong ones stacked."""
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


def confusion_matrix(answers: Answers, pairs: Sequence[Confusion], most: int = 20) -> Chart | None:
    """Return the classes of the most frequent confusions against each other; all of them where they are few."""
    if not pairs:
        return None
    classes = _classes_shown(answers, pairs, most)
    counts, totals = _matrix(answers, classes)
    names = [_axis_name(answers, number) for number in classes]
    ids = [str(number) for number in classes]  # across there is no room for names
    values = []
    for row, column in np.argwhere(counts):
        count, total = int(counts[row, column]), totals[row]
        tip = f"{names[row]} taken for {names[column]}: {count:,} of {total:,} images"
        if row == column:
            tip = f"{names[row]} recognized: {count:,} of {total:,} images"
        values.append({"label": names[row], "predicted": ids[column], "share": round(count / total, 4)})
        values[-1] |= {"images": count, "kind": "correct" if row == column else "wrong", "tip": tip}
    which = "all classes" if len(classes) == answers.result["num_classes"] else "the classes most often confused"
    description = (
        f"Confusion matrix of {which}: images of the class on the left that were taken for the one above. The stronger "
        "the color, the larger their share of the row."
    )
    height = max(180, 24 * len(classes)) + 64
    spec = chart_spec(description, height, data={"values": values}, **_matrix_look(names, ids))
    rows = [
        [name, *(f"{count:,}" if count else "" for count in line)] for name, line in zip(names, counts, strict=True)
    ]
    return Chart(f"Matrix of {which}", description, spec, ["label \\ predicted", *ids], rows)


def _classes_shown(answers: Answers, pairs: Sequence[Confusion], most: int) -> list[int]:
    """Return all classes, or at most `most` of the most frequent confusions, in their order."""
    classes: list[int] = []
    if answers.result["num_classes"] <= most:
        classes = list(range(answers.result["num_classes"]))
    for pair in pairs:
        for number in (pair.label, pair.predicted):
            if len(classes) < most and number not in classes:
                classes.append(number)
    return sorted(classes)


def _matrix(answers: Answers, classes: Sequence[int]) -> tuple[Ids, list[int]]:
    """Return the images of each class by the class that came first [classes, classes], and all images of each class."""
    place = {number: at for at, number in enumerate(classes)}
    labels, best = answers.labels[answers.readable], answers.best[answers.readable, 0]
    counts = np.zeros((len(classes), len(classes)), np.int64)
    totals = [int((labels == number).sum()) for number in classes]
    for number in classes:
        for predicted, count in zip(*np.unique(best[labels == number], return_counts=True), strict=True):
            if int(predicted) in place:
                counts[place[number], place[int(predicted)]] = count
    return counts, totals


# The page is as wide as a hand or as a table; a chart in it learns how wide it is only in the browser.
_NARROW = "containerSize()[0] < 500"


def _matrix_look(names: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
    """Return encoding and layers of a matrix with these names of its rows and columns; a narrow one has ids alone."""
    look = {"domain": False, "ticks": False, "grid": False, "labelPadding": 5}
    across = {**look, "labelAngle": 0, "orient": "top", "labelOverlap": "parity", "labelFontSize": 12}
    down = {**look, "labelOverlap": False, "labelLimit": 260, "labelFontSize": 12}
    place_of = {
        "x": {"field": "predicted", "type": "nominal", "title": "predicted class", "scale": {"domain": ids}}
        | {"axis": {**across, "titlePadding": 10}},
        "y": {"field": "label", "type": "nominal", "title": "label", "scale": {"domain": names}, "axis": down},
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
                "scale": {
                    "type": "pow",
                    "exponent": 0.6,
                    "domain": [0, 1],
                    "range": [0.08, 0.6],
                },  # numbers stand on it
                "legend": None,
            },
            "tooltip": TIP,
        },
    }
    number_size = {"expr": f"{_NARROW} ? {7 if len(ids) > _ROOMY else 10} : 11"}
    number = {"type": "text", "color": "var(--ink)", "fontSize": number_size, "aria": False}
    layers: list[dict[str, Any]] = [
        cell, {"mark": number, "encoding": {"text": {"field": "images", "format": ",d"}, "tooltip": TIP}},
    ]  # fmt: skip
    small: dict[str, Any] = {"labelFontSize": 9}
    ids_alone = {"labelExpr": "split(datum.label, ' ')[0]"} if len(ids) > _ROOMY else {"labelLimit": 120}
    narrow = {"encoding": {"x": {"axis": small}, "y": {"axis": {**small, **ids_alone}}}}
    return {"encoding": place_of, "layer": layers, "usermeta": {"narrow": narrow}}


def _axis_name(answers: Answers, number: int) -> str:
    """Return the id, and the name where there is another one; the id keeps equal names apart."""
    name = answers.names.get(number)
    return str(number) if name is None or name == str(number) else f"{number} {name[:40]}"
