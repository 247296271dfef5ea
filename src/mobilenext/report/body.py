"""The sections of the report page below its head, in their order: those of each task, then benches and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mobilenext.drawing.chart import Chart
from mobilenext.drawing.parts import Charts, Paragraph, Part, Section, Span, article_of, set_apart
from mobilenext.presentation import Reported
from mobilenext.report import sections
from mobilenext.report.charts import latency_histogram, metric_latency
from mobilenext.report.images import Images
from mobilenext.report.inputs import Inputs, TaskRuns
from mobilenext.report.names import published_of, task_of_bench
from mobilenext.report.network_charts import bench_charts
from mobilenext.report.training_charts import training_charts
from mobilenext.runs.bench import Bench


def body(inputs: Inputs, images: Images) -> list[Section]:
    """Return the sections of the page; where it has runs of several tasks, their names tell sections apart."""
    published = {task_of_bench(bench).name for bench in inputs.benches if _is_published(bench)}
    ordered: list[Section] = []
    for group in inputs.groups:
        own = _of_task(group, images, bench=group.task.name in published)
        ordered += own if len(inputs.groups) == 1 else [_of_several(section, group.task.name) for section in own]
    if inputs.benches:
        ordered.append(Section("bench", "Latency of networks", _benches(inputs.benches)))
    evaluated = {group.task.name for group in inputs.groups if group.evaluations}
    for bench in inputs.benches:
        task = task_of_bench(bench)
        chart = task.presentation.networks_chart([], True) if task.name in published - evaluated else None
        if chart:
            evaluated.add(task.name)
            ordered.append(Section("mult-adds", f"{task.metric.heading} and mult-adds", [Charts([chart])]))
    return [*ordered, Section("facts", "Configuration and environment", _facts(inputs))]


def _is_published(bench: Bench) -> bool:
    """Return whether a network ran as its authors ran it, beside which their numbers belong."""
    return any(published_of(row, task_of_bench(bench)) is not None for row in bench.result["rows"])


def _of_several(section: Section, task: str) -> Section:
    """Return a section of a page with several tasks, whose names and title are its own."""
    title = section.title if section.title.lower() == task else f"{section.title} ({task})"
    return replace(section, name=f"{task}-{section.name}", title=title, parts=set_apart(section.parts, task))


def _of_task(group: TaskRuns, images: Images, *, bench: bool) -> list[Section]:
    """Return the sections of the evaluations and training runs of one task.

    Args:
        group: the runs.
        images: of the page.
        bench: whether a bench has networks of the task as they are published.
    """
    runs, task = group.evaluations, group.task
    general, special = [], []
    if runs:
        special = task.presentation.sections(runs, images)
        networks = task.presentation.networks_chart(runs, bench)
        charts = [chart for chart in (metric_latency(runs, task), networks) if chart]
        parts: list[Part] = [sections.metric_table(runs, task), *([Charts(charts)] if charts else [])]
        general.append(Section("metric-latency", f"{task.metric.heading} and latency", parts))
        general.append(Section("latency", "Latency", _latency(runs)))
        general.append(Section("unreadable", "Unreadable images", _unreadable(runs)))
    if group.training:
        parts = [sections.training_table(group.training, task), Charts(training_charts(group.training))]
        general.append(Section("training-runs", "Training", parts))
        general += task.presentation.trained(group.training)
    ordered = []
    for section in general:
        ordered += [*(one for one in special if one.before == section.name), section]
    return ordered


def _latency(runs: Sequence[Reported]) -> list[Part]:
    """Return a histogram of the calls of each run, all on one axis."""
    domain, charts = _latency_domain(runs), []
    for run in runs:
        latency = run.result["latency"]
        samples = latency.get("samples_ms")
        if samples:
            charts.append(replace(latency_histogram(samples, latency, domain), title=run.name))
        else:
            charts.append(
                Chart(
                    run.name,
                    f"{latency['median']:.2f} ms ({sections.latency_note(run)}).",
                    {},
                    note="This result was written before single calls were stored, so their distribution cannot be "
                    "shown. Evaluate again to have it.",
                )
            )
    text = "One image at a time, warm, while nothing else of the evaluation runs."
    return [Paragraph([text + " The axes share one range." * (len(runs) > 1)]), Charts(charts)]


def _latency_domain(runs: Sequence[Reported]) -> tuple[float, float]:
    """Return the range from the fastest call to the slowest, or to twice the largest p90: one call may be very slow."""
    samples = [value for run in runs for value in run.result["latency"].get("samples_ms") or ()]
    slow = 2 * max((run.result["latency"]["p90"] for run in runs), default=1.0)
    low, high = min(samples, default=0.0), min(max(samples, default=1.0), slow)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _unreadable(runs: Sequence[Reported]) -> list[Part]:
    parts: list[Part] = []
    for place, run in enumerate(runs):
        name: list[str | Span] = [Span(run.name, "bdi"), ": "] if len(runs) > 1 else []
        table = sections.unreadable_table(run, place)
        parts.append(table or Paragraph([*name, _all_read(len(run.paths))]))
    return parts


def _all_read(images: int) -> str:
    return "The only image could be read." if images == 1 else f"All {images:,} images could be read."


def _benches(benches: Sequence[Bench]) -> list[Part]:
    articles: list[Part] = []
    for place, bench in enumerate(benches):
        task = task_of_bench(bench)
        notes = [
            Paragraph([f"skipped: {entry['network']}, {entry['runtime']}: {entry['reason']}"], "note")
            for entry in bench.result.get("skipped") or ()
        ]
        parts: list[Part] = [sections.bench_table(bench, place, task), Charts(bench_charts(bench, task)), *notes]
        articles.append(article_of(bench.name, parts, several=len(benches) > 1))
    return articles


def _facts(inputs: Inputs) -> list[Part]:
    """Return the settings of each task's runs, and those of the benches."""
    parts: list[Part] = []
    for group in inputs.groups:
        of = f" ({group.task.name})" if len(inputs.groups) > 1 else ""
        evaluations, training = group.evaluations, group.training
        kinds: dict[str, tuple[str, list[tuple[str, Any]]]] = {
            "configuration": (
                f"Configuration{of}",
                [(run.name, sections.configuration(run, group.task)) for run in evaluations],
            ),
            "environment": (f"Environment{of}", [(run.name, run.result["environment"]) for run in evaluations]),
            "training-configuration": (f"Training configuration{of}", [(run.name, run.config) for run in training]),
        }
        tables = [sections.facts_table(name, *kind) for name, kind in kinds.items() if kind[1]]
        parts += set_apart(tables, group.task.name) if of else tables
    columns = [
        (bench.name, {"configuration": bench.result["configuration"], **bench.result["environment"]})
        for bench in inputs.benches
    ]
    if columns:
        parts.append(sections.facts_table("bench-environment", "Environment of the bench", columns))
    return parts
