"""Charts of detectors: precision against recall, average precision at any overlap and by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.detection.detected import Detected
from mobilenext.detection.voc_precision import Curve
from mobilenext.drawing.chart import COLORS, PICK, TIP, Chart, axis, chart_spec, colored, shaped, unless_picked
from mobilenext.statistics import percent_text

MOST_POINTS = 150  # of a curve
MOST_CLASSES = 12  # charts beside each other where runs are compared
FULL = {"domain": [0, 100], "nice": False}
_RECALLS = tuple(range(0, 101, 10))


def curves_of_one(run: Detected) -> list[Chart]:
    """Return precision against recall of the classes of one run: as many classes to a chart as there are colors."""
    classes = [category for category, curve in enumerate(run.curves) if curve.positives]
    first = 1 if len(classes) < COLORS else 0  # the color of a class in `by_iou`, whose first line is all classes
    charts = []
    for start in range(0, len(classes), COLORS):
        part = classes[start : start + COLORS]
        names = [f"{run.class_name(category)}" for category in part]
        names = [name if names.count(name) == 1 else f"{name} ({part[at] + 1})" for at, name in enumerate(names)]
        which = "" if len(classes) <= COLORS else f", classes {part[0] + 1} to {part[-1] + 1}"
        curves = {name: run.curves[category] for name, category in zip(names, part, strict=True)}
        charts.append(_curves(f"Precision and recall{which}", curves, "class", first))
    return charts


def curves_of_several(runs: Sequence[Detected]) -> list[Chart]:
    """Return a chart for each of the classes with the most boxes, with a line for each run."""
    boxes: dict[str, int] = {}
    for run in runs:
        for row, curve in zip(run.result["per_class"], run.curves, strict=True):
            boxes[row["name"]] = max(boxes.get(row["name"], 0), curve.positives)
    names = sorted((name for name in boxes if boxes[name]), key=lambda name: -boxes[name])[:MOST_CLASSES]
    return [_curves(f"Precision and recall: {name}", _curves_of(name, runs), "run") for name in names]


def _curves_of(name: str, runs: Sequence[Detected]) -> dict[str, Curve]:
    curves = {}
    for run in runs:
        rows = [row["name"] for row in run.result["per_class"]]
        if name in rows and run.curves[rows.index(name)].positives:
            curves[run.name] = run.curves[rows.index(name)]
    return curves


def _curves(title: str, curves: Mapping[str, Curve], kind: str, first: int = 0) -> Chart:
    values = [value for name, curve in curves.items() for value in _points(name, curve)]
    rows = [[name, *(_best_precision(curve, recall) for recall in _RECALLS)] for name, curve in curves.items()]
    text = "Precision against recall at an overlap of 0.5, from the best scores (left) to all detections (right)."
    at = {
        "x": axis("recall", "recall, %", scale=FULL),
        "y": axis("precision", "precision, %", scale=FULL),
        "color": colored(list(curves), first=first),
    }
    line = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {**at, "order": {"field": "order"}, "opacity": unless_picked(1)},
    }
    dots = {
        "params": PICK,
        "mark": {"type": "point", "filled": True, "size": 30},
        "encoding": {**at, "tooltip": TIP, "opacity": unless_picked(0)},
    }
    spec = chart_spec(text, 250 + 18 * len(curves), data={"values": values}, layer=[line, dots])
    head = [kind, *(f"recall {recall} %" for recall in _RECALLS)]
    return Chart(title, text, spec, head, rows)


def _points(name: str, curve: Curve) -> list[dict[str, Any]]:
    """Return up to MOST_POINTS points of a curve: those where recall rises, evenly spaced, the last among them."""
    if not len(curve.recall):
        return []
    rises = np.flatnonzero(np.diff(curve.recall, prepend=-1.0) > 0)
    at = np.unique(np.append(rises[:: -(-len(rises) // MOST_POINTS)], len(curve.recall) - 1))
    return [
        {
            "run": name,
            "order": order,
            "recall": round(100 * float(curve.recall[place]), 2),
            "precision": round(100 * float(curve.precision[place]), 2),
            "tip": f"{name}, score {curve.scores[place]:.2f}: precision {percent_text(100 * curve.precision[place])}, "
            f"recall {percent_text(100 * curve.recall[place])}",
        }
        for order, place in enumerate(at.tolist())
    ]


def _best_precision(curve: Curve, recall: int) -> str:
    """Return the best precision from a recall on."""
    best = curve.precision[curve.recall >= recall / 100].max(initial=0.0)
    return f"{100 * best:.1f}"


def by_iou(runs: Sequence[Detected]) -> Chart:
    """Return average precision against the overlap that is asked for: of the runs, or of one run's classes as well."""
    lines = {run.name: run.result["AP_by_iou"] for run in runs}
    rows = lines
    if len(runs) == 1:
        per_class = runs[0].result["per_class"]
        classes = {runs[0].class_name(place): row["AP_by_iou"] for place, row in enumerate(per_class) if row["objects"]}
        lines = {"all classes": runs[0].result["AP_by_iou"]}
        rows = lines | classes
        lines |= classes if len(classes) < COLORS else {}
    ious = runs[0].result["ious"]
    values = [
        {
            "run": name,
            "iou": iou,
            "ap": round(100 * share, 3),
            "tip": f"{name}, IoU {iou:g}: AP {percent_text(100 * share)}",
        }
        for name, line in lines.items()
        for iou, share in zip(ious, line, strict=True)
        if share is not None
    ]
    text = "Average precision (COCO's rule) against the overlap (IoU) from which on a box counts as found."
    at = {
        "x": axis("iou", "overlap (IoU)", scale={"domain": [ious[0], ious[-1]], "nice": False}),
        "y": axis("ap", "AP, %", scale=FULL),
        "color": colored(list(lines)),
    }
    layers = [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {**at, "opacity": unless_picked(1)}},
        {
            "params": PICK,
            "mark": {"type": "point", "filled": True, "size": 55},
            "encoding": {**at, "shape": shaped(list(lines)), "tooltip": TIP, "opacity": unless_picked(1)},
        },
    ]
    spec = chart_spec(text, 250 + 18 * len(lines), data={"values": values}, layer=layers)
    cells = [[name, *("-" if one is None else f"{100 * one:.2f}" for one in line)] for name, line in rows.items()]
    head = ["class" if len(runs) == 1 else "run", *(f"IoU {iou:g}" for iou in ious)]
    return Chart("AP at any overlap", text, spec, head, cells)


def by_size(runs: Sequence[Detected]) -> Chart:
    """Return average precision and recall of small, medium and large boxes, a bar for each run."""
    values, rows = [], []
    for run in runs:
        for size, boxes in run.boxes_by_size.items():
            precision, recall = (run.result[f"{name}{size[0]}"] for name in ("AP", "AR"))
            texts = ["-" if one is None else percent_text(100 * one) for one in (precision, recall)]
            rows.append([run.name, size, f"{boxes:,}", *texts])
            if precision is not None:
                tip = f"{run.name}, {size}: AP {texts[0]}, recall {texts[1]}, {boxes:,} boxes"
                values.append({"run": run.name, "size": size, "ap": round(100 * precision, 3), "tip": tip})
    text = (
        "Average precision by the area of the true boxes, in pixels of the picture: small is below 32 x 32, "
        "large above 96 x 96."
    )
    names = [run.name for run in runs]
    spec = chart_spec(
        text,
        230 + 18 * len(names),
        data={"values": values},
        params=PICK if len(runs) > 1 else [],
        mark={"type": "bar"},
        encoding={
            "x": {"field": "size", "type": "nominal", "title": None, "sort": None, "axis": {"labelAngle": 0}}
            | {"scale": {"domain": ["small", "medium", "large"]}},
            "xOffset": {"field": "run", "type": "nominal", "sort": None, "scale": {"domain": names}},
            "y": {"field": "ap", "type": "quantitative", "title": "AP, %", "scale": FULL},
            "color": colored(names) if len(runs) > 1 else {"value": "var(--c1)"},
            "tooltip": TIP,
        },
    )
    head = ["run", "size", "boxes", "AP", "recall (AR100)"]
    return Chart("AP by size", text, spec, head, rows)
