"""The table at the end of an evaluation, and the lines around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.drawing.markdown import table
from mobilenext.runtime import RUNTIMES
from mobilenext.runtime.table import runtime_name
from mobilenext.task import Task
from mobilenext.tasks import find_task


def result_table(result: Mapping[str, Any]) -> str:
    """Return the table of an evaluation: its environment, the columns of its task, its latency."""
    task, latency = find_task(result.get("task")), result["latency"]
    columns = {
        "environment": _environment(result),
        **(task.presentation.columns_of_result or (lambda result: metric_column(result, task)))(result),
        "latency": f"{latency['median']:.2f} ms (p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f}; batch 1, "
        f"threads: {latency['threads']})",
    }
    return table(list(columns), [list(columns.values())])


def metric_column(result: Mapping[str, Any], task: Task) -> dict[str, str]:
    """Return the column of the metric, for a task without columns of its own."""
    measured = task.presentation.measured(result)
    return {task.metric.display: f"{measured.text} ({measured.note})" if measured.note else measured.text}


def _environment(result: Mapping[str, Any]) -> str:
    """Return the runtime with its version and engine, and the processor."""
    measured, runtime = result["environment"], result["runtime"]
    package = RUNTIMES[runtime].package.replace("_", "-") if runtime in RUNTIMES else runtime
    name = runtime_name(runtime, result.get("engine"), result.get("precision"))
    where = measured.get("processor") if result.get("device") == "cpu" else "GPU"
    if runtime.startswith("paddle"):
        paddle = measured.get("paddlepaddle") or measured.get("paddlepaddle-gpu")
        return f"Paddle {paddle or 'of unknown version'}, {name}, {where}"
    return f"{runtime} {measured.get(package) or 'of unknown version'}{name.removeprefix(runtime)}, {where}"


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines that an evaluation prints at its end, its table among them."""
    presentation, lines = find_task(result.get("task")).presentation, []
    if result["partial"]:
        lines.append(f"PARTIAL: the first {result['images']} of {result['data'].get('images_in_list')} images")
    if result["unreadable"]:
        lines.append(f"{result['unreadable']} unreadable images were counted as wrong")
    lines += [result_table(result), *presentation.lines(result)]
    speed, latency = result.get("images_per_second"), result["latency"]
    if speed is not None:
        lines.append(
            f"{speed:.1f} images/s with {result.get('workers')} processes of {result.get('threads')} threads; "
            f"reading and preprocessing one image: {latency.get('preprocessing_median')} ms"
        )
    lines += presentation.closing_lines(result)
    if result["partial"]:
        lines.append("PARTIAL: not a result for the whole data set")
    return lines
