"""What the report page shows of searches, also of unfinished ones: alphas over epochs, what they mean, its size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.cells import Cell, Table, words
from mobilenext.drawing.cells import number as cell
from mobilenext.drawing.chart import Chart, axis, chart_spec, colored, epochs
from mobilenext.drawing.parts import Charts, Paragraph, Part, Section, article_of
from mobilenext.errors import DataError, UsageError
from mobilenext.json_files import check, many, named, number, optional, record, whole
from mobilenext.models.architecture import Architecture
from mobilenext.models.block_plan import BlockPlan
from mobilenext.runs.training_run import TrainingRun
from mobilenext.search.cell_drawing import drawn_cell

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
            _decided(f"{_of_cell(table)}: choices", [(row["epoch"], _of_cells(row, table)) for row in rows])
            for table in last["alphas"]
        ]
        charts += [_operators(table, architecture.operators, rows) for table in last["alphas"]]
        charts += [drawn_cell(kind, getattr(genotype, kind)) for kind in ("normal", "reduce")]
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


def _of_cell(table: str) -> str:
    """Return what the alphas of a table decide on."""
    return {"alphas_normal": "Normal cell", "alphas_reduce": "Reduction cell"}.get(table, table)


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
    return Chart(f"{_of_cell(table)}: operators", text, _lines(text, values, legend=True), head, body)


def _lines(text: str, values: Sequence[Mapping[str, Any]], *, legend: bool) -> dict[str, Any]:
    names = list(dict.fromkeys(value["run"] for value in values))
    by_color = colored(names)
    by_color["legend"] = {**by_color["legend"], "columns": 2} if legend else None
    encoding = {
        "x": epochs(values),
        "y": axis("value", "probability"),
        "color": by_color,
        "tooltip": {"field": "tip", "type": "nominal"},
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 20}}
    narrow = {"encoding": {"color": {"legend": {"columns": 1}}}, "height": 260 + 18 * len(names)} if legend else {}
    return chart_spec(
        text,
        300 if legend else 240,
        usermeta={"narrow": narrow},
        data={"values": list(values)},
        mark=mark,
        encoding=encoding,
    )
