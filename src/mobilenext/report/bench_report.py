"""The latency table as Markdown and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.drawing.markdown import table
from mobilenext.errors import MissingDependency
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.report.names import network_name, runtime_name

MOST_POINTS = 40


def bench_table(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Every row, or those that are given."""
    heading = [
        *("network", "runtime", "threads", "batch", "median", "p10 to p90", "images/s", "of row 1"),
        *("of the compute floor", "start-up", "memory"),
    ]
    cells = [
        [
            network_name(row),
            runtime_name(row),
            str(row["threads"]),
            str(row["batch_size"]),
            f"{row['median_ms']:.2f} ms",
            f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}",
            f"{row['images_per_second']:.1f}",
            f"{row['times_first_row']:.2f}",
            f"{row['times_compute_floor']:.2f}" if row.get("times_compute_floor") else "-",
            f"{row['start_up_ms'] / 1000:.2f} s",
            f"{row['peak_memory_mib']:.0f} MiB" if row["peak_memory_mib"] else "-",
        ]
        for row in (result["rows"] if rows is None else rows)
    ]
    return table(heading, cells)


def row_line(row: Mapping[str, Any]) -> str:
    """One row in a line, as it is measured."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    return (
        f"{network_name(row)}, {runtime_name(row)}, {threads}, batch {row['batch_size']}: {row['median_ms']:.2f} ms "
        f"({row['images_per_second']:.1f} images/s)"
    )


def bench_note(result: Mapping[str, Any]) -> str:
    """How it was measured."""
    where, how = result["environment"], result["configuration"]
    floor = ", ".join(f"{value} GMAC/s with {count} threads" for count, value in result["gemm_gmacs"].items())
    versions = ", ".join(
        f"{name} {where[name]}"
        for name in ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "openvino", "ncnn", "ai-edge-litert")
        if name in where
    )
    load = f"{where['load_average'][0]} before, {result['load_average_after'][0]} after"
    return (
        f"{where['processor']}, {where['cores']} cores ({', '.join(where['processor_features'])}); {versions}. Medians "
        f"of at least {how['samples']} calls in {how['rounds']} interleaved rounds; load average {load}. The compute "
        f"floor is the mult-adds at the speed of a large float32 matrix product: {floor}."
    )


def bench_lines(result: Mapping[str, Any]) -> list[str]:
    """All that is printed."""
    lines = [bench_table(result), "", bench_note(result)]
    if result.get("partial"):
        lines.append("PARTIAL: interrupted; other rows were not measured, and some with fewer calls than was asked for")
    lines += [f"skipped: {entry['network']}, {entry['runtime']}: {entry['reason']}" for entry in result["skipped"]]
    return lines


def write_bench(result: Mapping[str, Any] | None, folder: Path) -> list[str]:
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into `folder`, and say what was written.

    Without a result it is only tried whether the folder can be written.

    Raises:
        OutputError: it cannot.
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
    """A picture of the table: points for single rows, or lines over the mult-adds when there are many.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    require(["matplotlib"], "bench", "the plot")
    from matplotlib.figure import Figure

    rows = result["rows"]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    where = result["environment"]
    figure.suptitle(f"Milliseconds an image, {where['processor']}, {where['cores']} cores")
    if len(rows) <= MOST_POINTS:
        _points(figure, rows)
    else:
        _lines(figure, rows)
    figure.savefig(path)


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = list(dict.fromkeys(runtime_name(row) for row in rows))
    return {name: f"C{index % 10}" for index, name in enumerate(names)}


def _points(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.subplots()
    colours = _colours(rows)
    labelled: set[str] = set()
    for position, row in enumerate(rows):
        name, batch = runtime_name(row), row["batch_size"]
        median, low, high = (row[key] / batch for key in ("median_ms", "p10_ms", "p90_ms"))
        label = None if name in labelled else name
        labelled.add(name)
        axes.plot([low, high], [position, position], color=colours[name], linewidth=2, alpha=0.5)
        axes.plot(median, position, "o", color=colours[name], label=label)
        axes.text(max(high, median), position, f"   {median:.2f}", va="center", fontsize=8)
    axes.set_yticks(
        range(len(rows)),
        [f"{network_name(row)}, {row['threads']} thr., batch {row['batch_size']}" for row in rows],
        fontsize=8,
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.grid(visible=True, which="both", axis="x", linewidth=0.3)
    axes.set_xlabel("milliseconds an image: median, and a line from the 10th to the 90th percentile")
    axes.legend(fontsize=8, loc="best")
    axes.margins(x=0.12)


def _plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10, 20, 50 on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _lines(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """A panel for each number of threads and batch size; a line for each runtime and family of networks."""
    rows = [row for row in rows if row["mult_adds"] and row["identity_divisor"] == 1]
    panels = list(dict.fromkeys((row["threads"], row["batch_size"]) for row in rows))
    columns = min(2, len(panels))
    grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True).ravel()
    colours = _colours(rows)
    for axes, (threads, batch) in zip(grid, panels, strict=False):
        for name, colour in colours.items():
            for family, style in (("mobilenext", "-o"), ("mobilenetv2", "--^")):
                points = sorted(
                    (row["mult_adds"] / 1e6, row["ms_per_image"])
                    for row in rows
                    if (runtime_name(row), row["threads"], row["batch_size"]) == (name, threads, batch)
                    and row["network"].startswith(family)
                )
                if points:
                    axes.plot(*zip(*points, strict=True), style, color=colour, markersize=4, linewidth=1)
        axes.set_title(f"batch {batch}, {threads} thread{'s' * (threads > 1)}", fontsize=10)
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
        axes.grid(visible=True, which="both", linewidth=0.3)
        axes.set_xlabel("mult-adds of the network, millions")
        axes.set_ylabel("milliseconds an image")
    for name, colour in colours.items():
        grid[0].plot([], [], color=colour, label=name)
    grid[0].plot([], [], "-o", color="grey", label="MobileNeXt")
    grid[0].plot([], [], "--^", color="grey", label="MobileNetV2")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
