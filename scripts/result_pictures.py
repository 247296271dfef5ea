"""Pictures of results that say one thing each: the paper's claim as dots with intervals, latency as bars."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import axis, colored
from mobilenext.drawing.picture import panel, side_by_side
from mobilenext.report.names import runtime_of
from mobilenext.statistics import student_quantile

WIDTH, ROW = 760, 56  # pixels
CLAIM = {
    ("mobilenext_x0_35", 1): "MobileNeXt x0.35",
    ("mobilenext_x0_35", 2): "MobileNeXt x0.35, half of the shortcut",
    ("mobilenetv2_x0_35", 1): "MobileNetV2 x0.35",
}
LATENCY = {"mobilenext_x1_0": "MobileNeXt x1.0", "mobilenetv2_x1_0": "MobileNetV2 x1.0"}


def claim_spec(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dot for each training run, and the mean of each network with its 95 % interval (Student's t)."""
    dots, means = [], []
    for (model, divisor), name in CLAIM.items():
        runs = [
            run for run in result["comparison"]["runs"] if (run["model"], run["identity_divisor"]) == (model, divisor)
        ]
        values = [run["final"]["raw"]["top1_percent"] for run in runs]
        mean = statistics.mean(values)
        half = student_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        dots += [{"run": name, "top1": value} for value in values]
        text = f"{mean:.1f} %, 95 %: {mean - half:.1f} to {mean + half:.1f}"
        means.append({"run": name, "mean": mean, "low": mean - half, "high": mean + half, "text": text})
    names = list(CLAIM.values())
    images = result["comparison"]["runs"][0]["final"]["raw"]["images"]
    x = axis("top1", f"top-1 on {images} validation images, %", axis={"tickCount": 8})
    encoding = {"y": _rows(names), "color": {**colored(names), "legend": None}}
    span = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    at_mean = {"x": {**x, "field": "mean"}}
    layers = [
        {"data": {"values": means}, "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45}, "encoding": span},
        {"data": {"values": means}, "mark": {"type": "tick", "thickness": 3, "size": 26}, "encoding": at_mean},
        {
            "data": {"values": dots},
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 0.9},
            "encoding": {"x": x},
        },
        {
            "data": {"values": means},
            "mark": {"type": "text", "dy": -20, "fontSize": 12},
            "encoding": {**at_mean, "text": {"field": "text"}},
        },
    ]
    seeds = len(dots) // len(names)
    title = f"{seeds} seeds (dots), their mean and its 95 % interval: the intervals overlap"
    return _picture({"encoding": encoding, "layer": layers}, (ROW + 14) * len(names), title)


def latency_spec(result: Mapping[str, Any], threads: int = 1) -> dict[str, Any]:
    """Return a bar for each runtime and network of width 1.0, with a line from the 10th to the 90th percentile."""
    rows = [
        row
        for row in result["rows"]
        if row["network"] in LATENCY and row["identity_divisor"] == 1 and row["threads"] == threads
    ]
    values = [
        {"run": LATENCY[row["network"]], "runtime": runtime_of(row), "ms": row["median_ms"]}
        | {"low": row["p10_ms"], "high": row["p90_ms"], "text": f"{row['median_ms']:.1f}"}
        for row in rows
    ]
    medians = {value["runtime"]: value["ms"] for value in values if value["run"] == LATENCY["mobilenext_x1_0"]}
    runtimes, names = sorted(medians, key=lambda name: medians[name]), list(LATENCY.values())
    x = axis("ms", "milliseconds for one image of 224 x 224 pixels", scale={"zero": True})
    inner = {"field": "run", "type": "nominal", "sort": None, "scale": {"domain": names, "paddingInner": 0.15}}
    encoding = {"y": {**_rows(runtimes), "field": "runtime"}, "yOffset": inner, "color": colored(names)}
    span = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": {"value": "var(--ink)"}}
    layers = [
        {"mark": {"type": "bar"}, "encoding": {"x": x}},
        {"mark": {"type": "rule", "strokeWidth": 1.4}, "encoding": span},
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 12},
            "encoding": {"x": {**x, "field": "high"}, "text": {"field": "text"}, "color": {"value": "var(--ink)"}},
        },
    ]
    where = result["environment"]
    title = f"One thread of {where['processor']}, batch 1: median, and a line from the 10th to the 90th percentile"
    return _picture({"data": {"values": values}, "encoding": encoding, "layer": layers}, ROW * len(runtimes), title)


def _rows(names: Sequence[str]) -> dict[str, Any]:
    look = {"labelLimit": 400, "labelFontSize": 13, "grid": False, "ticks": False, "domain": False}
    return {"field": "run", "type": "nominal", "title": None, "sort": list(names), "axis": look}


def _picture(spec: Mapping[str, Any], height: int, title: str) -> dict[str, Any]:
    return side_by_side([panel(spec, WIDTH, height, title)], 1)
