"""What the report page shows of searches, also of unfinished ones: alphas over epochs, what they mean, its size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.cells import Cell, Table, words
from mobilenext.drawing.cells import number as cell
from mobilenext.drawing.chart import Chart, axis, chart_spec, color, colored
from mobilenext.drawing.parts import Charts, Paragraph, Part, Section, article_of
from mobilenext.errors import DataError, UsageError
from mobilenext.json_files import check, many, named, number, optional, record, whole
from mobilenext.models.architecture import Architecture
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.genotype import INPUTS, NODES
from mobilenext.runs.training_run import TrainingRun

_REMEDY = "restore the log, or leave this run out"
_STATE = {
    "architecture": record({}),
    **dict.fromkeys(("parameters", "mult_adds"), number(0)),
    "counts": named(whole(0)),
    "cost": optional(number(0)),  # milliseconds, of a search by latency
    "measured": optional(record({"measured_ms": optional(number(0))})),
    "top1_percent": optional(number(0, 100)),  # in the super-network, where single networks can be run in it
}


def _check_alphas(value: Any, field: str) -> None:
    """Accept a table of alphas, a row for each edge of cells, or the row of one choice among blocks."""
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    many(many(number()) if rows else number())(value, field)


_ROW = {
    "search": record({**_STATE, "expected_cost": number(), "alphas": named(_check_alphas)}),
}  # of an epoch
_RANDOM = record(
    {
        "architectures": whole(1),
        **dict.fromkeys(("parameters", "mult_adds"), number(0)),
        **dict.fromkeys(("cost", "top1_percent"), optional(number(0))),
    }
)
_RESULT = {"search.found": many(record({**_STATE, "random": _RANDOM}))}


def sections(runs: Sequence[TrainingRun]) -> list[Section]:
    """Return the section of the searches among training runs.

    Raises:
        DataError: a log or a result whose fields of the search are damaged.
    """
    articles: list[Part] = []
    for run in runs:
        rows = run.epochs
        for row in rows:
            check(row, _ROW, f"{run.folder}: the log's row of epoch {row['epoch']}", remedy=_REMEDY)
        if rows:
            articles.append(article_of(run.name, _parts(run, rows), several=len(runs) > 1))
    return [Section("search", "Search", articles)] if articles else []


def _parts(run: TrainingRun, rows: Sequence[Mapping[str, Any]]) -> list[Part]:
    last = rows[-1]["search"]
    try:
        architecture = Architecture.from_dict(last["architecture"])
    except UsageError as error:
        raise DataError(f"{run.folder}: the log's last architecture cannot be used: {error}; {_REMEDY}") from error
    genotype = architecture.genotype
    if genotype is None:
        charts = [_decided("choices of blocks", [(row["epoch"], _of_blocks(row)) for row in rows])]
    else:
        charts = [
            _decided(f"{table}: choices", [(row["epoch"], _of_cells(row, table)) for row in rows])
            for table in last["alphas"]
        ]
        charts += [_operators(table, architecture.operators, rows) for table in last["alphas"]]
        charts += [_drawn(kind, getattr(genotype, kind)) for kind in ("normal", "reduce")]
    counts = ", ".join(f"{name} {count}" for name, count in last["counts"].items())
    state = "found" if run.result else f"found so far, after epoch {rows[-1]['epoch']} of {run.config['epochs']}"
    parts: list[Part] = [Paragraph([f"{architecture.name}, {state}: {counts}."]), _sizes(run, last), Charts(charts)]
    if genotype is None:
        parts.append(_blocks(architecture.blocks))
    if warning := last.get("warning"):
        parts.insert(1, Paragraph([str(warning)], "warning"))
    return parts


def _sizes(run: TrainingRun, last: Mapping[str, Any]) -> Table:
    """Return the size of the architecture beside that of random ones, which a run draws at its end."""
    sizes = [("found" if run.result else "found so far", last)]
    if run.result:
        check(run.result, _RESULT, f"{run.folder}: result.json", remedy=_REMEDY)
        sizes = []
        for one in run.result["search"]["found"]:
            budget = f", budget {one['budget']:g}" if isinstance(one.get("budget"), int | float) else ""
            sizes.append((f"found{budget}", one))
            sizes.append((f"mean of {one['random']['architectures']} random ones", one["random"]))
    best = run.result["best"] if run.result else None
    caption = "The final network."
    if best:
        caption += f" Best {run.task.metric.display} of the super-network: {run.measured(best).text}."
    heading = ["architecture", "parameters", "mult-adds"]
    if latency := any("cost" in values for _, values in sizes):
        heading += ["latency, by its parts", "measured as a whole"]
    if accuracy := any("top1_percent" in values for _, values in sizes):
        heading.append("top-1 in the super-network")
    rows = [_size(*size, latency=latency, accuracy=accuracy) for size in sizes]
    return Table("search-sizes", caption, heading, rows)


def _size(name: str, values: Mapping[str, Any], *, latency: bool, accuracy: bool) -> list[Cell]:
    row = [words(name), *(cell(values[field] / 1e6, ",.2f", " M") for field in ("parameters", "mult_adds"))]
    if latency:
        milliseconds = (values.get("cost"), values.get("measured", {}).get("measured_ms"))
        row += [cell(value, ",.3f", " ms") for value in milliseconds]
    if accuracy:
        row.append(cell(values.get("top1_percent"), ".2f", " %"))
    return row


def _probabilities(row: Sequence[float]) -> list[float]:
    largest = max(row)
    exponentials = [math.exp(value - largest) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def _blocks(plans: Sequence[BlockPlan]) -> Table:
    """Return the blocks of a network, from the image to the classifier."""
    rows = [
        [
            *(cell(value, ",d") for value in (place, plan.in_channels, plan.hidden_channels, plan.out_channels)),
            *(cell(value, "d") for value in (plan.stride, plan.kernel_size)),
        ]
        for place, plan in enumerate(plans, 1)
    ]
    heading = ["block kept", "channels in", "hidden", "out", "stride", "kernel"]
    return Table("search-blocks", "The blocks of the network.", heading, rows)


def _of_blocks(row: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Return the alphas of each choice among blocks, by the block's number."""
    return {
        f"block {name.removeprefix('features.').removesuffix('.alphas')}": alphas
        for name, alphas in row["search"]["alphas"].items()
    }


def _of_cells(row: Mapping[str, Any], table: str) -> dict[str, Sequence[float]]:
    """Return the alphas of each edge of a cell."""
    return {f"choice {place}": alphas for place, alphas in enumerate(row["search"]["alphas"].get(table, ()))}


def _decided(title: str, epochs: Sequence[tuple[int, Mapping[str, Sequence[float]]]]) -> Chart:
    """Return the probability of the likeliest candidate of each choice, against the epoch."""
    values = [
        {"run": name, "epoch": epoch, "value": value, "tip": f"{name}, epoch {epoch}: {value:.3f}"}
        for epoch, choices in epochs
        for name, alphas in choices.items()
        for value in [max(_probabilities(alphas))]
    ]
    text = "How sure each choice is: the probability of its likeliest candidate, against the epoch."
    return Chart(title, text, _lines(text, values, legend=False))


def _operators(table: str, operators: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the mean probability of each operator over all edges, against the epoch."""
    values = []
    for row in rows:
        edges = [_probabilities(alphas) for alphas in row["search"]["alphas"].get(table, ())]
        for operator, column in zip(operators, zip(*edges, strict=True), strict=True):
            mean = sum(column) / len(column)
            tip = f"{operator}, epoch {row['epoch']}: {mean:.3f}"
            values.append({"run": operator, "epoch": row["epoch"], "value": mean, "tip": tip})
    text = "The mean probability of each operator over all edges, against the epoch."
    head, body = ["epoch", "operator", "probability"], []
    for value in values:
        body.append([str(value["epoch"]), value["run"], f"{value['value']:.4f}"])
    return Chart(f"{table}: operators", text, _lines(text, values, legend=True), head, body)


def _lines(text: str, values: Sequence[Mapping[str, Any]], *, legend: bool) -> dict[str, Any]:
    names = list(dict.fromkeys(value["run"] for value in values))
    by_color = colored(names)
    by_color["legend"] = {**by_color["legend"], "columns": 3} if legend else None
    encoding = {
        "x": axis("epoch", "epoch", axis={"tickMinStep": 1}),
        "y": axis("value", "probability"),
        "color": by_color,
        "tooltip": {"field": "tip", "type": "nominal"},
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 20}}
    return chart_spec(text, 300 if legend else 240, data={"values": list(values)}, mark=mark, encoding=encoding)


# A cell: its two inputs on the left, the nodes from left to right, its output on the right.

_HEIGHTS = (1.0, -1.0, 0.55, -0.55, 0.9, -0.9)  # of the inputs and of the four nodes
_NAMES = ("older input", "newer input", *(f"node {number}" for number in range(NODES)), "output")


def _drawn(kind: str, edges: Sequence[tuple[str, int]]) -> Chart:
    """Return a drawing of a cell: nodes, and edges with their operators."""
    places = [(0.0, 1.0), (0.0, -1.0)] + [(1.5 * (node + 1), _HEIGHTS[INPUTS + node]) for node in range(NODES)]
    places.append((1.5 * (NODES + 1), 0.0))
    lines, labels = [], []
    for place, (operator, source) in enumerate(edges):
        node = INPUTS + place // INPUTS
        (x, y), (x2, y2) = places[source], places[node]
        lines.append({"x": x, "y": y, "x2": x2, "y2": y2, "tip": f"{_NAMES[source]} to {_NAMES[node]}: {operator}"})
        share = 0.42 + 0.22 * (place % INPUTS)  # so that the names of two edges into one node do not overlap
        labels.append({"x": x + share * (x2 - x), "y": y + share * (y2 - y), "name": operator})
    outputs = [
        {"x": places[node][0], "y": places[node][1], "x2": places[-1][0], "y2": 0.0, "tip": "to the output"}
        for node in range(INPUTS, INPUTS + NODES)
    ]
    nodes = [{"x": x, "y": y, "name": name} for (x, y), name in zip(places, _NAMES, strict=True)]
    position = {
        "x": {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [-0.6, 8.1]}},
        "y": {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [-1.35, 1.35]}},
    }
    ends = {**position, "x2": {"field": "x2"}, "y2": {"field": "y2"}, "tooltip": {"field": "tip", "type": "nominal"}}
    name = {**position, "text": {"field": "name", "type": "nominal"}}
    layers = [
        {"data": {"values": outputs}, "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.5}, "encoding": ends},
        {"data": {"values": lines}, "mark": {"type": "rule", "strokeWidth": 2, "color": color(0)}, "encoding": ends},
        {"data": {"values": nodes}, "mark": {"type": "point", "filled": True, "size": 160}, "encoding": position},
        {"data": {"values": nodes}, "mark": {"type": "text", "dy": -16, "fontWeight": "bold"}, "encoding": name},
        {"data": {"values": labels}, "mark": {"type": "text", "fontSize": 11, "dy": -7}, "encoding": name},
    ]
    text = f"The {kind} cell: each node is the sum of two operators; the output has all four nodes."
    rows = [
        [_NAMES[INPUTS + place // INPUTS], _NAMES[source], operator] for place, (operator, source) in enumerate(edges)
    ]
    title = {"normal": "The normal cell", "reduce": "The reduction cell"}[kind]
    return Chart(title, text, chart_spec(text, 340, layer=layers), ["node", "from", "operator"], rows)
