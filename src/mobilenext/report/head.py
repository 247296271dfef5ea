"""The head of the page: in a sentence what came out, and what the runs differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.cells import Table, counted, duration, words
from mobilenext.drawing.parts import Paragraph, Part, Span, set_apart
from mobilenext.presentation import Reported
from mobilenext.report.inputs import Inputs, TaskRuns
from mobilenext.report.names import network_name, runtime_of
from mobilenext.report.sections import configuration, flat, how_run
from mobilenext.runs.bench import Bench
from mobilenext.runs.comparison import comparison, differences, value_text
from mobilenext.runs.training_run import TrainingRun
from mobilenext.task import Task

# What every evaluation has anew, and what follows from other fields.
NOT_COMPARED = ("started", "finished", "command", "setup_digest", "resumed_images", "notes", "warnings")
CHANGING = ("load_average", "memory_gib", "governor", "system")  # of an environment


def head(inputs: Inputs) -> list[Part]:
    """Return a sentence for each kind of result and, of several runs, what differs between them."""
    parts: list[Part] = []
    for group in inputs.groups:
        if group.evaluations:
            parts.append(_of_evaluations(group.evaluations, group.task))
        if group.training:
            parts.append(_of_training(group.training, group.task))
    parts += [_of_bench(bench) for bench in inputs.benches]
    several = len(inputs.groups) > 1
    for group in inputs.groups:
        parts += set_apart(_differing(group), group.task.name) if several else _differing(group)
    return parts


def _of_evaluations(runs: Sequence[Reported], task: Task) -> Paragraph:
    metric, measured = task.metric, [task.presentation.measured(run.result) for run in runs]
    if len({_data(run) for run in runs}) > 1:
        text = "The runs are on different data: their numbers cannot be compared."
        return Paragraph([f"{counted(len(runs), 'evaluation')}. {text}"], "lede")
    latencies = [run.result["latency"]["median"] for run in runs]
    of = f"{counted(runs[0].result['images'], 'image')} of "
    where: list[str | Span] = [of, Span(str(runs[0].result["data"].get("folder")), "bdi")]
    if len(runs) == 1:
        run, value = runs[0], measured[0]
        note = f" ({value.note}{f' {metric.symbol}' if value.interval and metric.symbol else ''})" if value.note else ""
        spans = [f"{metric.title} of {run.result['model']} on ", *where, ": ", Span(value.text), f"{note}. "]
        return Paragraph([*spans, "One image takes ", Span(f"{latencies[0]:.2f} ms"), f" ({how_run(run)})."], "lede")
    sign = 1 if metric.larger_is_better else -1
    best = max(range(len(runs)), key=lambda place: sign * measured[place].value)
    fastest = min(range(len(runs)), key=lambda place: latencies[place])
    order = "highest" if sign > 0 else "lowest"
    return Paragraph(
        [
            f"Of {len(runs)} runs on ", *where, ", ", Span(runs[best].name, "bdi"),
            f" has the {order} {metric.display}, ", Span(measured[best].text), ", and ",
            Span(runs[fastest].name, "bdi"), " the lowest latency, ",
            Span(f"{latencies[fastest]:.2f} ms"), " an image.",
        ],
        "lede",
    )  # fmt: skip


def _data(run: Reported) -> tuple[Any, ...]:
    """Return what tells whether two evaluations are of the same images."""
    data = run.result["data"]
    return data.get("sha256") or data.get("folder"), run.result["images"]


def _of_training(runs: Sequence[TrainingRun], task: Task) -> Paragraph:
    rows, metric, nouns = comparison(runs)["runs"], task.metric, task.presentation.run_nouns
    done = [(run, row) for run, row in zip(runs, rows, strict=True) if row["best"]]
    if not done:
        return Paragraph([f"{counted(len(runs), *nouns)}, none of them validated yet."], "lede")
    sign = 1 if metric.larger_is_better else -1
    run, row = max(done, key=lambda pair: sign * pair[0].measured(pair[1]["best"]).value)
    best = row["best"]
    whose = f"Of {counted(len(runs), *nouns)}, " if len(runs) > 1 else f"{nouns[0].capitalize()} "
    kind = "the weights as trained" if best["kind"] == "raw" else f"the weights' moving average, {best['kind'].upper()}"
    spans: list[str | Span] = [
        whose, Span(run.name, "bdi"), f" has the best validation {metric.display}, " if len(runs) > 1 else
        f": best validation {metric.display} ", Span(run.measured(best).text),
        f", after epoch {best['epoch']} of {row['epochs']} ({kind}).",
    ]  # fmt: skip
    spans.append(
        f" It took {duration(row['train_seconds'])}."
        if row["finished"]
        else f" It is unfinished, after {row['epochs_done']} epochs."
    )
    return Paragraph(spans, "lede")


def _of_bench(bench: Bench) -> Paragraph:
    rows = bench.result["rows"]
    if not rows:
        return Paragraph([Span(bench.name, "bdi"), ": no row was measured."], "lede")
    row = min(rows, key=lambda row: float(row["ms_per_image"]))
    spans: list[str | Span] = [
        "Lowest latency of ", counted(len(rows), "row"), " in ", Span(bench.name, "bdi"), ": ",
        Span(f"{row['ms_per_image']:.2f} ms"),
        f" an image, {network_name(row)} with {runtime_of(row)}, {counted(row['threads'], 'thread')}, batch "
        f"{row['batch_size']}.",
    ]  # fmt: skip
    return Paragraph(spans, "lede")


def _differing(group: TaskRuns) -> list[Part]:
    """Return a table of the settings in which runs of a kind differ."""
    parts: list[Part] = []
    if len(group.evaluations) > 1:
        names = [run.name for run in group.evaluations]
        settings = [_settings(run, group.task) for run in group.evaluations]
        keys = dict.fromkeys(key for one in settings for key in one)
        values = {key: [one.get(key, "-") for one in settings] for key in keys}
        different = {key: column for key, column in values.items() if len(set(column)) > 1}
        parts.append(_table("differences", "What differs between the evaluations", names, different))
    if len(group.training) > 1:
        names = [run.name for run in group.training]
        values = {key: list(map(value_text, column)) for key, column in differences(group.training).items()}
        _, several = group.task.presentation.run_nouns
        parts.append(_table("training-differences", f"What differs between the {several}", names, values))
    return parts


def _settings(run: Reported, task: Task) -> dict[str, str]:
    """Return the settings of an evaluation and its environment, flat, without what differs in any two."""
    settings = {key: value for key, value in configuration(run, task).items() if key not in NOT_COMPARED}
    environment = {key: value for key, value in run.result["environment"].items() if key not in CHANGING}
    texts = flat({**settings, "environment": environment})
    return {key: value for key, value in texts.items() if not key.startswith("weights.") or not key.endswith("sha256")}


def _table(name: str, caption: str, names: Sequence[str], values: Mapping[str, Sequence[str]]) -> Part:
    if not values:
        return Paragraph([f"{caption}: no setting."], "note")
    rows = [[words(key), *(words(value_text(value)) for value in column)] for key, column in values.items()]
    return Table(name, caption, ["", *names], rows, sortable=False, shown=12)
