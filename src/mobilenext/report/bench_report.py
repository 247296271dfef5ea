"""The latency table as Markdown and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.drawing.chart import axis, colored
from mobilenext.drawing.markdown import table
from mobilenext.drawing.picture import panel, side_by_side, write_picture
from mobilenext.errors import MissingDependency
from mobilenext.files import write_atomically
from mobilenext.report.names import amounts_of, network_name, runtime_of
from mobilenext.report.network_charts import latency_mult_adds

MOST_POINTS = 40


def bench_table(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return a Markdown table of all rows of a bench, or of `rows`."""
    heading = [
        *("network", "runtime", "threads", "batch", "median", "p10 to p90", "images/s", "relative to row 1"),
        *("of the compute floor", "start-up", "memory"),
    ]
    rows = result["rows"] if rows is None else rows
    amounts = amounts_of(rows)
    cells = [
        [
            network_name(row),
            runtime_of(row),
            str(row["threads"]),
            str(row["batch_size"]),
            f"{row['median_ms']:.2f} ms",
            f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}",
            f"{row['images_per_second']:.1f}",
            f"{row['times_first_row']:.2f}",
            f"{row['times_compute_floor']:.2f}" if row.get("times_compute_floor") else "-",
            f"{row['start_up_ms'] / 1000:.2f} s",
            f"{row['peak_memory_mib']:.0f} MiB" if row["peak_memory_mib"] else "-",
            *_answer_cells(row, amounts),
        ]
        for row in rows
    ]
    return table([*heading, *(["of it, post-processing", *amounts] if amounts else [])], cells)


def _answer_cells(row: Mapping[str, Any], amounts: Sequence[str]) -> list[str]:
    """Return the median of the post-processing in a call, and what it depends on, per image."""
    if not amounts:
        return []
    if "post_processing_ms" not in row:
        return ["-"] * (1 + len(amounts))
    return [f"{row['post_processing_ms']:.2f} ms", *(f"{row['amounts_per_image'][name]:,.0f}" for name in amounts)]


def row_line(row: Mapping[str, Any]) -> str:
    """Return one row as a line of text."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    return (
        f"{network_name(row)}, {runtime_of(row)}, {threads}, batch {row['batch_size']}: {row['median_ms']:.2f} ms "
        f"({row['images_per_second']:.1f} images/s)"
    )


def bench_note(result: Mapping[str, Any]) -> str:
    """Return the paragraph on how a bench was measured: the machine, the calls and the compute floor."""
    where, how = result["environment"], result["configuration"]
    floor = ", ".join(f"{value} GMAC/s with {count} threads" for count, value in result["gemm_gmacs"].items())
    versions = ", ".join(
        f"{name} {where[name]}"
        for name in ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "openvino", "ncnn", "ai-edge-litert", "mnn")
        if name in where
    )
    load = f"{where['load_average'][0]} before, {result['load_average_after'][0]} after"
    return (
        f"{where['processor']}, {where['cores']} cores ({', '.join(where['processor_features'])}); {versions}. Medians "
        f"of at least {how['samples']} calls in {how['rounds']} interleaved rounds; load average {load}. The compute "
        f"floor is the mult-adds at the speed of a large float32 matrix product: {floor}."
    )


def bench_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines that `mobilenext bench` prints."""
    lines = [bench_table(result), "", bench_note(result)]
    if result.get("partial"):
        lines.append("PARTIAL: interrupted; other rows were not measured, and some with fewer calls than was asked for")
    lines += [f"skipped: {entry['network']}, {entry['runtime']}: {entry['reason']}" for entry in result["skipped"]]
    return lines


def write_bench(result: Mapping[str, Any] | None, folder: Path) -> list[str]:
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into `folder`, and say what was written.

    Without a result, only check that the folder can be written.

    Raises:
        OutputError: the folder cannot be written.
    """
    if result is None:
        write_atomically(folder / ".bench", b"")
        (folder / ".bench").unlink()
        return []
    write_atomically(folder / "bench.json", (json.dumps(result, indent=1) + "\n").encode())
    write_atomically(folder / "bench.md", ("\n".join(bench_lines(result)) + "\n").encode())
    written = f"written: {folder / 'bench.json'}, {folder / 'bench.md'}"
    try:
        write_plot(result, folder / "bench.png")
    except MissingDependency as error:
        return [written, f"no picture: {error}"]
    return [f"{written}, {folder / 'bench.png'}"]


def write_plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw the table: points for single rows, or lines over the mult-adds where there are many.

    Raises:
        MissingDependency: vl-convert is not installed.
        OutputError: it cannot be written.
    """
    rows, where = result["rows"], result["environment"]
    title = f"Milliseconds an image, {where['processor']}, {where['cores']} cores"
    panels = [_rows_panel(rows)] if len(rows) <= MOST_POINTS else _network_panels(rows)
    spec = side_by_side(panels, min(2, len(panels)), title, scale={"color": "shared", "shape": "shared"})
    write_picture(spec, path, extra="bench", purpose="the plot")


def _network_panels(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Draw a panel for each number of threads and batch size, of networks whose shortcut carries all channels."""
    rows = [row for row in rows if row["mult_adds"] and row["identity_divisor"] == 1]
    names = list(dict.fromkeys(runtime_of(row) for row in rows))
    panels = []
    for threads, batch in dict.fromkeys((row["threads"], row["batch_size"]) for row in rows):
        here = [row for row in rows if (row["threads"], row["batch_size"]) == (threads, batch)]
        where = f"batch {batch}, {threads} thread{'s' * (threads > 1)}"
        panels.append(panel(latency_mult_adds(here, names, where).spec, 520, 560, where))
    return panels


def _rows_panel(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Draw for each row a line from the 10th to the 90th percentile, a point at the median, and its number."""
    values, names = [], list(dict.fromkeys(runtime_of(row) for row in rows))
    for place, row in enumerate(rows):
        batch = row["batch_size"]
        median, low, high = (row[key] / batch for key in ("median_ms", "p10_ms", "p90_ms"))
        name = f"{network_name(row)}, {row['threads']} thr., batch {batch}"
        values.append({"run": runtime_of(row), "row": place, "name": name, "ms": median, "low": low, "high": high})
        values[-1] |= {"end": max(high, median), "text": f"{median:.2f}"}
    ticks = {"labelExpr": f"{json.dumps([value['name'] for value in values])}[datum.value]", "labelLimit": 400}
    y = {"field": "row", "type": "ordinal", "title": None, "axis": {**ticks, "grid": False, "ticks": False}}
    title = "milliseconds an image: median, and a line from the 10th to the 90th percentile"
    x = axis("ms", title, scale={"type": "log", "nice": False, "padding": 30})
    look = {"y": y, "color": colored(names)}
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 2.5, "opacity": 0.5}, "encoding": {**look, **ends}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}, "encoding": {**look, "x": x}},
        {
            "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 11},
            "encoding": {"y": y, "x": {**x, "field": "end"}, "text": {"field": "text"}},
        },
    ]
    return panel({"data": {"values": values}, "layer": layers}, 860, max(200, 19 * len(rows)), "")
