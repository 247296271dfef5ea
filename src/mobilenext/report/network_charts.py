"""Charts of a bench: latency against mult-adds, and the published metric against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import PICK, TIP, Chart, axis, chart_spec, colored, shaped, unless_picked
from mobilenext.models.cards import FAMILIES, MODELS
from mobilenext.report.names import network_name, published_of, runtime_of
from mobilenext.runs.bench import Bench
from mobilenext.task import Task

MOST_PANELS = 4
LOG_FROM = 5  # the largest value over the smallest, from which on an axis is logarithmic


def bench_charts(bench: Bench, task: Task) -> list[Chart]:
    """Return for each number of threads and batch size charts of latency and of the paper's metric."""
    rows = [row for row in bench.result["rows"] if row.get("mult_adds")]
    panels = list(dict.fromkeys((row["threads"], row["batch_size"]) for row in rows))[:MOST_PANELS]
    names = list(dict.fromkeys(runtime_of(row) for row in rows))
    charts = []
    for threads, batch in panels:
        here = [row for row in rows if (row["threads"], row["batch_size"]) == (threads, batch)]
        where = f"batch {batch}, {threads} thread{'s' * (threads > 1)}"
        charts.append(latency_mult_adds(here, names, where))
        paper = [row for row in here if published_of(row, task) is not None]
        if paper:
            charts.append(_paper_latency(paper, names, where, task))
    return charts


def _family(row: Mapping[str, Any]) -> str:
    card = MODELS.get(row["network"])
    return FAMILIES[card.family] if card else "other"


def latency_mult_adds(rows: Sequence[Mapping[str, Any]], names: Sequence[str], where: str) -> Chart:
    """Return a chart of milliseconds an image against mult-adds: colors for runtimes, shapes for families."""
    values = [
        {
            "run": runtime_of(row),
            "family": _family(row),
            "millions": row["mult_adds"] / 1e6,
            "ms": row["ms_per_image"],
            "tip": f"{network_name(row)}, {runtime_of(row)}: {row['ms_per_image']:.2f} ms an image, "
            f"{row['mult_adds'] / 1e6:.0f} M mult-adds",
        }
        for row in rows
    ]
    description = f"Milliseconds an image against mult-adds, {where}. A click on a runtime brings out its points."
    return Chart(
        f"Latency against mult-adds, {where}",
        description,
        _points(
            description, values, names, ("millions", "mult-adds, millions"), ("ms", "milliseconds an image"), log=True
        ),
        ["network", "runtime", "mult-adds, M", "ms an image"],
        [
            [network_name(row), runtime_of(row), f"{row['mult_adds'] / 1e6:.1f}", f"{row['ms_per_image']:.3f}"]
            for row in rows
        ],
    )


def _paper_latency(rows: Sequence[Mapping[str, Any]], names: Sequence[str], where: str, task: Task) -> Chart:
    metric, cells = task.metric, []
    values = []
    for row in rows:
        name, runtime, published = network_name(row), runtime_of(row), f"{published_of(row, task)} {metric.symbol}"
        values.append(
            {
                "run": runtime,
                "family": _family(row),
                "ms": row["ms_per_image"],
                metric.name: published_of(row, task),
                "tip": f"{name}, {runtime}: {row['ms_per_image']:.2f} ms an image measured here, "
                f"{metric.display} {published} as the paper reports",
            }
        )
        cells.append([name, runtime, f"{row['ms_per_image']:.3f}", published])
    source = ", ".join(filter(None, (task.presentation.published_on, "not measured here")))
    description = f"The paper's {metric.display} ({source}) against the latency that was measured, {where}."
    across, up = ("ms", "milliseconds an image"), (metric.name, f"{metric.display} in the paper, {metric.symbol}")
    return Chart(
        f"The paper's {metric.noun} against latency, {where}",
        description,
        _points(description, values, names, across, up, log=False),
        ["network", "runtime", "ms an image", f"{metric.display}, the paper's"],
        cells,
    )


def _scale(values: Sequence[Mapping[str, Any]], field: str) -> dict[str, Any]:
    """Return a logarithmic scale, or a linear one where the values are too close for the labels of powers."""
    numbers = [value[field] for value in values]
    wide = min(numbers) > 0 and max(numbers) >= LOG_FROM * min(numbers)
    return {"padding": 14, **({"type": "log", "nice": False} if wide else {})}


def _points(
    description: str,
    values: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    x: tuple[str, str],
    y: tuple[str, str],
    *,
    log: bool,
) -> dict[str, Any]:
    families = list(dict.fromkeys(str(value["family"]) for value in values))
    across = axis(*x, scale=_scale(values, x[0]))
    axis_y = axis(*y, scale=_scale(values, y[0]) if log else {})
    place = {"x": across, "y": axis_y, "color": colored(names)}
    shape = shaped(families) | {"field": "family"}
    legends = (len(names), len(families))
    below = {"legend": {"layout": {"bottom": {"direction": "vertical", "anchor": "start"}}}}
    return chart_spec(
        description,
        280 + 18 * max(legends),  # the legend takes its part of it
        usermeta={"narrow": {"config": below, "height": 280 + 18 * sum(legends)}},
        data={"values": list(values)},
        layer=[
            {
                "mark": {"type": "line", "strokeWidth": 1},
                "encoding": {**place, "detail": {"field": "family"}, "opacity": unless_picked(0.45)},
            },
            {
                "params": PICK,
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {**place, "shape": shape, "tooltip": TIP, "opacity": unless_picked(1)},
            },
        ],
        resolve={"legend": {"color": "shared", "shape": "independent"}},
    )
