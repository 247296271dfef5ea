"""The sections of the report page that every task has: results as tables, with every number beside its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mobilenext.drawing.cells import EMPTY, Cell, Table, counted, duration, number, words
from mobilenext.drawing.parts import Tile
from mobilenext.models.cards import ModelCard
from mobilenext.models.lookup import card_as_counted
from mobilenext.presentation import Measured, Reported
from mobilenext.report.names import network_name, published_of, runtime_of
from mobilenext.runs.bench import Bench
from mobilenext.runs.comparison import comparison
from mobilenext.runs.setups import shortened
from mobilenext.runs.training_run import TrainingRun
from mobilenext.task import Task

MOST_UNREADABLE, MOST_FACTS = 500, 60  # rows: of unreadable images, and of settings without a click


def moment(time: Any) -> str:
    """Return a stored time as 2026-11-27 03:17 UTC; an empty text where no time is stored."""
    known = isinstance(time, str) and len(time) == len("2026-11-27T03:17:54Z") and time.endswith("Z")
    return f"{time[:10]} {time[11:16]} UTC" if known else ""


def dates(results: Sequence[Mapping[str, Any]], now: str) -> str:
    """Return the dates of the results and of the page as text."""
    days = sorted(day for result in results if (day := moment(result.get("finished"))[:10]))
    span = f"{days[0]} to {days[-1]}" if days and days[0] != days[-1] else "".join(days[:1])
    return f"{f'results of {span}; ' if span else ''}page of {moment(now)}"


def headline(run: Reported, task: Task) -> dict[str, Any]:
    """Return the head of an evaluation: what was evaluated, and its main numbers."""
    result, latency = run.result, run.result["latency"]
    return {
        "name": run.name,
        "made": moment(result.get("finished")),
        "command": result.get("command"),
        "model": result["model"],
        "data": result["data"].get("folder"),
        "images": counted(result["images"], "image"),
        "partial": counted(result["data"].get("images_in_list") or 0, "image") if result["partial"] else "",
        "unreadable": _unreadable_text(len(run.errors)),
        "tiles": [
            *(task.presentation.tiles or (lambda run: [metric_tile(run, task)]))(run),
            Tile("Latency of one image", f"{latency['median']:.2f} ms", latency_note(run)),
        ],
        "remarks": [*(result.get("warnings") or ()), *task.presentation.remarks(run)],
    }


def _unreadable_text(count: int) -> str:
    verb = "was" if count == 1 else "were"
    return f"{counted(count, 'unreadable image')} {verb} counted as wrong." if count else ""


def metric_tile(run: Reported, task: Task) -> Tile:
    """Return the tile of the metric, for a task without tiles of its own."""
    measured = task.presentation.measured(run.result)
    return Tile(task.metric.title, measured.text, measured.note, lead=True)


def latency_note(run: Reported) -> str:
    """Return the spread of the latency of one image, and how the network was run."""
    latency = run.result["latency"]
    return f"p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f} ms; {how_run(run)}"


def how_run(run: Reported) -> str:
    """Return runtime, threads and processor in a line."""
    result = run.result
    threads = result["latency"]["threads"]
    where = result["environment"].get("processor") if result.get("device") != "gpu" else "GPU"
    return f"{runtime_of(result)}, batch 1, {counted(threads, 'thread')}, {where}"


def metric_table(runs: Sequence[Reported], task: Task) -> Table:
    """Return a row for each evaluation: the task's columns, latency, and the size of the network where it is known."""
    heads, cells = (task.presentation.columns or (lambda runs: metric_columns(runs, task)))(runs)
    cards = [card_as_counted(run.result) for run in runs]
    rows = []
    for run, scores, card in zip(runs, cells, cards, strict=True):
        result, latency = run.result, run.result["latency"]
        spread = f"p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f}"
        reading = latency.get("preprocessing_median")
        rows.append(
            [
                words(run.name, note=f"{result['model']} on {result['data'].get('folder')}"),
                *scores,
                number(latency["median"], ".2f", " ms", note=spread),
                words(how_run(run)),
                number(
                    result.get("images_per_second"), ".1f", note="" if reading is None else f"{reading:.2f} ms to read"
                ),
                *(_size(card) if any(cards) else []),
            ]
        )
    head = ["run", *heads, "latency", "runtime", "images/s"]
    note = "Images/s are those of the whole evaluation; below them the time to read and preprocess one image."
    if any(cards):
        head += ["parameters", "mult-adds"]
        counted_for = {card.counted_for for card in cards if card}
        note += f" Parameters and mult-adds are those of {' or '.join(sorted(counted_for))}."
    return Table("metric", f"{task.metric.heading} and latency of one image", head, rows, note=note)


def _size(card: ModelCard | None) -> list[Cell]:
    if card is None:
        return [EMPTY, EMPTY]
    return [number(card.parameters / 1e6, ".2f", " M"), number(card.mult_adds / 1e6, ".0f", " M")]


def metric_columns(runs: Sequence[Reported], task: Task) -> tuple[list[str], list[list[Cell]]]:
    """Return head and cells of the metric, for a task without columns of its own."""
    measured = [task.presentation.measured(run.result) for run in runs]
    return [task.metric.display], [[measured_cell(one)] for one in measured]


def measured_cell(measured: Measured) -> Cell:
    """Return a cell of the metric with its counts and interval."""
    return Cell(measured.text, round(measured.value, 3), measured.note)


def unreadable_table(run: Reported, place: int) -> Table | None:
    """Return the images that were counted as wrong because they could not be read."""
    if not run.errors:
        return None
    rows = [[words(run.paths[at]), words(reason)] for at, reason in list(run.errors.items())[:MOST_UNREADABLE]]
    shown = "" if len(run.errors) <= MOST_UNREADABLE else f" The first {MOST_UNREADABLE} are shown."
    note = f"{len(run.errors):,} of {counted(len(run.paths), 'image')}, each of them counted as wrong.{shown}"
    return Table(f"unreadable-{place}", f"Unreadable images, {run.name}", ["image", "reason"], rows, note=note)


def training_table(runs: Sequence[TrainingRun], task: Task) -> Table:
    """Return a row for each training run."""
    rows = []
    for run, row in zip(runs, comparison(runs)["runs"], strict=True):
        final, best = row["final"], row["best"]
        cells = [
            words(run.name, note=f"{row['model']}, recipe {row['recipe']}, seed {row['seed']}"),
            words(f"{row['epochs_done']}/{row['epochs']}", note="" if row["finished"] else "unfinished"),
        ]
        for counts in (final.get("raw"), final.get("ema"), best):
            cells.append(measured_cell(run.measured(counts)) if counts else EMPTY)
        if best:
            where = f"epoch {best['epoch']}, {best['kind']}"
            cells[-1] = replace(cells[-1], note="; ".join(filter(None, (where, cells[-1].note))))
        cells += [
            number(row["train_loss"], ".4f"),
            number(row["images_per_second"], ",.1f"),
            Cell(duration(row["train_seconds"]), row["train_seconds"]),
        ]
        rows.append(cells)
    metric = task.metric.display
    scores = [f"final {metric}, raw", f"final {metric}, EMA", f"best {metric}"]
    return Table("training", "Training runs", ["run", "epochs", *scores, "training loss", "images/s", "time"], rows)


def bench_table(bench: Bench, place: int, task: Task) -> Table:
    """Return every row of a bench; the published metric, labeled as such, where the network is run as its authors did.

    A column in which no row has a value is left out.
    """
    metric = task.metric
    floor, memory, after = "times the compute floor", "memory", "of it, post-processing"
    paper = f"{metric.display} in the paper"
    columns: dict[str, list[Cell]] = {}
    for row in bench.result["rows"]:
        adds = row.get("mult_adds")
        cells = {
            "network": words(network_name(row)),
            "runtime": words(runtime_of(row), note=how_called(row)),
            "median": number(row["median_ms"], ".3f", " ms", note=f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}"),
            "images/s": number(row["images_per_second"], ",.1f"),
            "mult-adds": number(adds and adds / 1e6, ".0f", " M"),
            paper: number(published_of(row, task), ".2f", f" {metric.symbol}".rstrip()),
            floor: number(row.get("times_compute_floor"), ".2f"),
            "start-up": number(row["start_up_ms"] / 1000, ".2f", " s"),
            memory: number(row.get("peak_memory_mib"), ".0f", " MiB"),
            after: number(row.get("post_processing_ms"), ".3f", " ms", note=_amounts(row)),
        }
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    columns = {name: cells for name, cells in columns.items() if any(cell.text != "-" for cell in cells)}
    where = bench.result["environment"]
    samples = bench.result["configuration"].get("samples")
    note = (
        f"{where.get('processor')}, {where.get('cores')} cores; medians of at least {samples} calls, interleaved, and "
        "below each its 10th and 90th percentile."
    )
    if paper in columns:
        note += (
            f" The paper's {metric.display} is of {task.presentation.published_on} and was not measured here; it "
            "stands beside networks that ran as the authors ran them."
        )
    rows = [list(cells) for cells in zip(*columns.values(), strict=True)]
    caption, searched = f"Latency, {bench.name}", "a network or runtime"
    return Table(f"bench-{place}", caption, list(columns), rows, searched=searched, note=note)


def _amounts(row: Mapping[str, Any]) -> str:
    """Return what the time of post-processing depends on, per image."""
    return "; ".join(f"{value:,.0f} {name}" for name, value in (row.get("amounts_per_image") or {}).items())


def how_called(row: Mapping[str, Any]) -> str:
    """Return the threads and the batch of a row of a bench in words."""
    return f"{counted(row['threads'], 'thread')}, batch {row['batch_size']}"


def facts_table(name: str, caption: str, columns: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return nested facts as rows, a column for each run; rows in which the runs differ are marked."""
    texts = [flat(facts) for _, facts in columns]
    keys = list(dict.fromkeys(key for one in texts for key in one))
    rows = [[words(key), *(words(one.get(key, "-")) for one in texts)] for key in keys]
    marked = frozenset(
        place for place, key in enumerate(keys) if len({one.get(key, "-") for one in texts}) > 1 and len(texts) > 1
    )
    note = f"{len(marked)} of {len(keys)} rows differ; they are marked." if len(texts) > 1 else ""
    head = ["", *(column for column, _ in columns)] if len(columns) > 1 else ["", "value"]
    look: dict[str, Any] = {"sortable": False, "searched": "a setting", "note": note, "marked": marked}
    return Table(name, caption, head, rows, shown=MOST_FACTS, **look)


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested facts as texts under names such as ``data.folder``."""
    values: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            values[prefix + key] = shortened(value)  # the blocks of an architecture would fill the page
        elif isinstance(value, list):
            values[prefix + key] = ", ".join(map(str, value)) or "none"
        else:
            values[prefix + key] = "-" if value is None or value == "" else str(value)
    return values


def configuration(run: Reported, task: Task) -> dict[str, Any]:
    """Return the fields of a result that decided its numbers."""
    fields = (
        *("task", "model", "weights", *task.presentation.facts, "identity_divisor", "preprocessing", "data"),
        *("partial", "runtime", "engine", "precision", "device", "workers", "threads", "batch_size", "processes"),
        *("resumed_images", "notes", "started", "finished", "command", "setup_digest"),
    )
    return {field: run.result[field] for field in fields if field in run.result}
