"""Charts of networks: accuracy and latency against mult-adds, and what the paper reports, labelled as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.chart import PICK, TIP, Chart, axis, chart_spec, coloured, shaped, unless_picked
from mobilenext.models.cards import MODELS
from mobilenext.report.bench_report import network_name, runtime_name
from mobilenext.report.inputs import Bench, Evaluation

MOST_PANELS = 4
FAMILIES = {"mobilenext": "MobileNeXt", "mobilenext_se": "MobileNeXt with SE", "mobilenetv2": "MobileNetV2"}


def accuracy_mult_adds(evaluations: Sequence[Evaluation]) -> Chart:
    """The paper's points, labelled as such, and those measured here with 1,000 classes."""
    values, rows, kinds = [], [], [f"{name}, the paper's" for name in FAMILIES.values()]
    for card in MODELS.values():
        if card.paper_top1_percent is not None:
            values.append({"run": f"{FAMILIES[card.family]}, the paper's", "millions": card.mult_adds / 1e6})
            values[-1] |= {"top1": card.paper_top1_percent, "name": card.name}
            values[-1]["tip"] = (
                f"{card.name}: {card.paper_top1_percent} % on ImageNet as the paper reports, not measured"
            )
            rows.append(
                [card.name, f"{card.mult_adds / 1e6:.1f}", f"{card.paper_top1_percent}", "the paper's, ImageNet"]
            )
    measured = [run for run in evaluations if run.result["model"] in MODELS and run.result["num_classes"] == 1000]
    for run in measured:
        result, millions = run.result, MODELS[run.result["model"]].mult_adds / 1e6
        counts = f"{result['correct_top1']:,}/{result['images']:,}"
        kind = "measured here"
        values.append({"run": kind, "millions": millions, "top1": result["top1_percent"], "name": run.name})
        values[-1]["tip"] = f"{run.name}: {result['top1_percent']:.2f} % ({counts} of {result['data'].get('folder')})"
        rows.append([run.name, f"{millions:.1f}", f"{result['top1_percent']:.3f}", f"measured here, {counts}"])
    if measured:
        kinds.append("measured here")
    description = "Top-1 on ImageNet against mult-adds: what the paper reports" + (
        ", and what was measured" * bool(measured)
    )
    x, y = axis("millions", "mult-adds at 224 pixels, millions"), axis("top1", "top-1, %")
    look = {"color": coloured(kinds), "shape": shaped(kinds), "tooltip": TIP}
    spec = chart_spec(
        description,
        300,
        data={"values": values},
        layer=[
            {
                "mark": {"type": "line", "strokeDash": [3, 3], "opacity": 0.5},
                "encoding": {"x": x, "y": y, "color": coloured(kinds)},
                "transform": [{"filter": "datum.run != 'measured here'"}],
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": x, "y": y, **look},
            },
        ],
    )
    return Chart(
        "Accuracy against mult-adds", description, spec, ["network", "mult-adds, M", "top-1, %", "whose"], rows
    )


def bench_charts(bench: Bench) -> list[Chart]:
    """For each number of threads and batch size: latency against mult-adds, and the paper's accuracy by latency."""
    rows = [row for row in bench.result["rows"] if row.get("mult_adds")]
    panels = list(dict.fromkeys((row["threads"], row["batch_size"]) for row in rows))[:MOST_PANELS]
    names = list(dict.fromkeys(runtime_name(row) for row in rows))
    charts = []
    for threads, batch in panels:
        here = [row for row in rows if (row["threads"], row["batch_size"]) == (threads, batch)]
        where = f"batch {batch}, {threads} thread{'s' * (threads > 1)}"
        charts.append(_latency_mult_adds(here, names, where))
        paper = [row for row in here if _paper_top1(row) is not None]
        if paper:
            charts.append(_paper_latency(paper, names, where))
    return charts


def _paper_top1(row: Mapping[str, Any]) -> float | None:
    card = MODELS.get(row["network"])
    comparable = row["identity_divisor"] == 1 and row["image_size"] == 224 and row["precision"] in ("", "fp32")
    return card.paper_top1_percent if card and comparable else None


def _family(row: Mapping[str, Any]) -> str:
    card = MODELS.get(row["network"])
    return FAMILIES[card.family] if card else "other"


def _latency_mult_adds(rows: Sequence[Mapping[str, Any]], names: Sequence[str], where: str) -> Chart:
    values = [
        {
            "run": runtime_name(row),
            "family": _family(row),
            "millions": row["mult_adds"] / 1e6,
            "ms": row["ms_per_image"],
            "tip": f"{network_name(row)}, {runtime_name(row)}: {row['ms_per_image']:.2f} ms an image, "
            f"{row['mult_adds'] / 1e6:.0f} M mult-adds",
        }
        for row in rows
    ]
    description = (
        f"Milliseconds an image against mult-adds, {where}; logarithmic. A click on a runtime brings out its points."
    )
    return Chart(
        f"Latency against mult-adds, {where}",
        description,
        _points(
            description, values, names, ("millions", "mult-adds, millions"), ("ms", "milliseconds an image"), log=True
        ),
        ["network", "runtime", "mult-adds, M", "ms an image"],
        [
            [network_name(row), runtime_name(row), f"{row['mult_adds'] / 1e6:.1f}", f"{row['ms_per_image']:.3f}"]
            for row in rows
        ],
    )


def _paper_latency(rows: Sequence[Mapping[str, Any]], names: Sequence[str], where: str) -> Chart:
    values = [
        {
            "run": runtime_name(row),
            "family": _family(row),
            "ms": row["ms_per_image"],
            "top1": _paper_top1(row),
            "tip": f"{network_name(row)}, {runtime_name(row)}: {row['ms_per_image']:.2f} ms an image measured here, "
            f"top-1 {_paper_top1(row)} % as the paper reports",
        }
        for row in rows
    ]
    description = f"The paper's top-1 (ImageNet, not measured here) against the latency that was measured, {where}."
    return Chart(
        f"The paper's accuracy against latency, {where}",
        description,
        _points(
            description, values, names, ("ms", "milliseconds an image"), ("top1", "top-1 in the paper, %"), log=False
        ),
        ["network", "runtime", "ms an image", "top-1, the paper's"],
        [[network_name(row), runtime_name(row), f"{row['ms_per_image']:.3f}", f"{_paper_top1(row)} %"] for row in rows],
    )


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
    scale = {"type": "log", "nice": False, "padding": 14} if log else {"padding": 14}
    axis_y = axis(*y, scale=scale if log else {})
    across = axis(*x, scale={**scale, "type": "log", "nice": False})
    place = {"x": across, "y": axis_y, "color": coloured(names)}
    shape = shaped(families) | {"field": "family"}
    return chart_spec(
        description,
        280 + 18 * max(len(names), len(families)),  # the legend takes its part of it
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
