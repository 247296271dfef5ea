"""Charts of evaluations that every task has: latency, and runs against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.drawing.cells import interval_text
from mobilenext.drawing.chart import TIP, Chart, axis, chart_spec, colored, shaped
from mobilenext.presentation import Reported
from mobilenext.task import Task

TEXT_WIDTH = 0.3  # of the text at a line, as a share of the chart


def latency_histogram(samples: Sequence[float], latency: Mapping[str, Any], domain: tuple[float, float]) -> Chart:
    """Return a histogram of the calls; the runs of a page share `domain`, so that readers can compare them."""
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
    description = (
        f"Histogram of {len(samples)} timed calls: median {latency['median']:.3f} ms, p10 {latency['p10']:.3f}, "
        f"p90 {latency['p90']:.3f}."
    )
    if above:
        description += f" {above} calls above {high:.3f} ms are not drawn; the slowest took {max(samples):.3f} ms."
        rows.append([f"above {high:.3f} ms", str(above)])
    spec = chart_spec(description, 220, layer=_histogram_layers(values, latency, domain))
    return Chart("Latency", description, spec, ["milliseconds", "calls"], rows)


def _histogram_layers(
    values: Sequence[Mapping[str, Any]], latency: Mapping[str, Any], domain: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return the layers of bars for the calls and of lines at the percentiles."""
    width = domain[1] - domain[0]
    marks, texts = [], list[tuple[int, float, float]]()  # of each text its height and its ends, as shares of the width
    for key in ("p10", "median", "p90"):
        at = (latency[key] - domain[0]) / width
        right = at > 1 - TEXT_WIDTH
        start, end = (at - TEXT_WIDTH, at) if right else (at, at + TEXT_WIDTH)
        taken = {height for height, left, last in texts if start < last and left < end}
        level = min(set(range(3)) - taken)
        texts.append((level, start, end))
        text = f"{key} {latency[key]:.2f}"
        marks.append({"x": latency[key], "name": text, "y": -4 - 14 * level, "tip": f"{key}: {latency[key]:.3f} ms"})
        marks[-1]["align"] = "right" if right else "left"
    x, scale = {"field": "x", "type": "quantitative"}, {"domain": list(domain), "nice": False}
    return [
        {
            "data": {"values": values},
            "mark": {"type": "bar", "color": "var(--c1)", "opacity": 0.8, "binSpacing": 0.5},
            "encoding": {
                "x": axis("left", "milliseconds", scale=scale, bin={"binned": True}),
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
        *(
            {
                "data": {"values": [mark]},
                "mark": {"type": "text", "align": mark["align"], "dx": 4 if mark["align"] == "left" else -4}
                | {"dy": mark["y"], "baseline": "bottom", "color": "var(--ink)"},
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "name"}},
            }
            for mark in marks
        ),
    ]


def metric_latency(evaluations: Sequence[Reported], task: Task) -> Chart | None:
    """Return the metric against the median latency of one image, with the intervals of both; two runs at least."""
    if len(evaluations) < 2:
        return None
    metric, values, rows = task.metric, [], []
    for run in evaluations:
        latency, measured = run.result["latency"], task.presentation.measured(run.result)
        value = round(measured.value, 3)
        low, high = measured.interval or (value, value)
        span = f"{latency['p10']:.2f} to {latency['p90']:.2f}"
        interval = f" ({interval_text(low, high)} {metric.symbol})" if measured.interval else ""
        speed = f"{latency['median']:.2f} ms (p10 to p90: {span} ms)"
        tip = f"{run.name}: {metric.display} {measured.text}{interval}, {speed}"
        values.append({"run": run.name, "ms": latency["median"], "p10": latency["p10"], "p90": latency["p90"]})
        values[-1] |= {metric.name: value, "low": low, "high": high, "tip": tip}
        rows.append([run.name, f"{latency['median']:.3f}", span, f"{value:.3f}"])
        rows[-1].append(f"{low:.2f} to {high:.2f}" if measured.interval else "-")
    description = (
        f"{metric.title} against milliseconds for one image: a point for each run, lines for 95 % interval and p10 to "
        "p90."
    )
    names = [run.name for run in evaluations]
    spec = chart_spec(description, 260 + 18 * len(names), data={"values": values}, layer=_crosses(names, task))
    head = ["run", "median, ms", "p10 to p90, ms", metric.axis, f"95 % interval, {metric.symbol}".removesuffix(", ")]
    return Chart(f"{metric.heading} against latency", description, spec, head, rows)


def _crosses(names: Sequence[str], task: Task) -> list[dict[str, Any]]:
    """Return the layers of a point for each run, with lines for the intervals of its metric and its latency."""
    x, y = axis("ms", "milliseconds for one image"), axis(task.metric.name, task.metric.axis)
    ends = {"color": colored(names), "tooltip": TIP}
    return [
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
            "encoding": {"x": x, "y": y, "color": colored(names), "shape": shaped(names), "tooltip": TIP},
        },
    ]
