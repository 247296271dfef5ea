"""Evaluate a network on a data set: every image exactly once, the same counts however the work is divided.

    weights file ──> prepared network ──┐
                                        ├──> worker processes: read, preprocess, predict ──> journal ──> result
    data set ──> checked records ───────┘

On a CPU each worker process does all three steps by itself, which is what keeps every core busy; on a GPU the
workers read and preprocess, and this process predicts. Several processes, started by Paddle's launcher, share the
images; the first of them keeps the journal and writes the result. The task says what an answer is and what is counted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from PIL import Image

from mobilenext.data import Dataset, Preprocessing, Record, pixels_of
from mobilenext.data.check import size_problems, unreadable_images
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import DataError, ImageError, UsageError
from mobilenext.evaluation.latency import measure_latency
from mobilenext.evaluation.outcome import Trial, finished_result, write_outcome
from mobilenext.evaluation.pipeline import ChunkWork, predict_together, warm_up
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool, available_cores, watched_scratch_folder
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.origin import now, origin
from mobilenext.runs.journal import Journal
from mobilenext.sources.choice import Choice, choose
from mobilenext.sources.find import find_subject, task_of
from mobilenext.sources.options import Execution, Scoring, Selection, Source, split_options, take_options
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.task import Counts, Evaluated, Task
from mobilenext.tasks import task_of_file

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.sources.options import EvaluationOptions

log = logging.getLogger(__name__)
LATENCY_IMAGES = 20

_WAY_OUT = "count them as wrong: --unreadable wrong"

# Images done, images in all, and right answers so far: an int, or None where the task counts none.
Progress = Callable[[int, int, Any], None]


def evaluate(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    unreadable: str = "stop",
    resume: bool = False,
    progress: Progress | None = None,
    **options: Unpack[EvaluationOptions],
) -> dict[str, Any]:
    """Evaluate a network on a data set: its scores, its latency, and how it compares with a published number.

        result = mobilenext.evaluate("imagenet", weights="mobilenext_x1_0.safetensors", output="run")

    Args:
        data: a folder in one of the layouts of :func:`mobilenext.data.open_dataset`.
        output: a folder for ``result.json``, ``predictions.jsonl`` and the journal; None keeps nothing.
        unreadable: ``stop``, or ``wrong`` to count an unreadable image as a wrong answer.
        resume: go on with the journal in `output`.
        progress: called at the start, with what a resumed journal holds, and after each chunk.
        options: model, weights, exported, onnx, use, section, identity_divisor, preprocessing, labels, output_name
            name the network; device, runtime, engine, precision, threads, batch_size and workers say how it is run;
            list_file, split and limit select images. `mobilenext.sources.options` describes each, and those of answers.

    Returns:
        The content of ``result.json``.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError, DownloadError: of what was read.
        OutputError: the output cannot be written. CheckFailed: no runtime computes what the network does.
    """
    started = now()
    source, execution, selection, scoring, workers = _sort(options)
    _check(output, unreadable, resume, selection)
    choice, subject = choose(execution, workers), find_subject(**source)
    task = task_of_file(task_of(subject), subject.path)
    answering = task.options_of(scoring)
    whole = _open(task, data, selection, choice, unreadable)
    with watched_scratch_folder(output) as scratch:
        # A process of its own prepares: this one stays small, and the latency is measured while nothing else runs.
        with WorkerPool(1, choice.environment()) as single:
            prepared = single.call(prepare, subject, scratch, choice)
            dataset = task.evaluation.fit_data(whole, prepared).first(selection.get("limit"))
            trial = Trial(task, prepared, dataset, _with_fixed_batch(choice, execution, prepared), answering)
            warnings = _introduce(trial, data, subject.path)
            ranks, setup = Ranks(), trial.setup()
            # All processes keep a journal of all rows; that of the first one can be resumed.
            folder = Path(output) if output is not None and ranks.first else scratch / "output"
            if resume and (finished := _finished(folder, setup, ranks)) is not None:
                return finished
            journal = Journal(folder, setup, trial.read_row, resume=resume)
            latency, remarks = _measure(single, trial, ranks)
        warnings += _sizes_assumed(prepared, remarks)
        with journal:
            counts, speed = _run(journal, trial, unreadable, progress, ranks)
        evaluated = Evaluated(prepared, dataset, journal.rows, counts, remarks)
        result = trial.headline(setup) | {"warnings": warnings, "processes": ranks.world}
        result |= _task_fields(task, evaluated) | latency | speed | origin(started) | {"environment": environment()}
        if ranks.first:
            write_outcome(folder, journal, result, task.evaluation.files(evaluated))
    return result


def _task_fields(task: Task, evaluated: Evaluated) -> dict[str, Any]:
    """Return the task's fields of a result, and what readers of every result need where the task does not count it."""
    unreadable = sum(row.error is not None for row in evaluated.rows)
    fields = task.evaluation.result(evaluated)
    return fields | {"images": len(evaluated.dataset), "unreadable": unreadable} | fields


def _sort(options: Mapping[str, Any]) -> tuple[Source, Execution, Selection, Scoring, int | None]:
    """Sort the keywords into their records; the last is the number of worker processes."""
    rest = dict(options)
    selection, scoring, workers = take_options(Selection, rest), take_options(Scoring, rest), rest.pop("workers", None)
    return *split_options(rest, "evaluate"), selection, scoring, workers


def _check(output: str | os.PathLike[str] | None, unreadable: str, resume: bool, selection: Selection) -> None:
    """Raise UsageError for options that cannot work."""
    if unreadable not in ("stop", "wrong"):
        raise UsageError(f"unreadable is {unreadable!r}; expected stop or wrong")
    if resume and output is None:
        raise UsageError("resume was asked for without an output folder, where the journal would be")
    limit = selection.get("limit")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; expected 1 or more")


def _open(task: Task, data: str | os.PathLike[str], selection: Selection, choice: Choice, unreadable: str) -> Dataset:
    """Open the data, before the network is prepared: that takes longer, and problems of the data should not wait.

    Raises:
        DatasetError: problems of the data set. ImageError: formats that are not read, among the images selected.
    """
    dataset = task.evaluation.open_data(data, list_file=selection.get("list_file"), split=selection.get("split"))
    selected = dataset.first(selection.get("limit"))
    if unreadable == "stop" and selected.unreadable:
        _refuse_unreadable(selected.records, choice)
    return dataset


def _with_fixed_batch(choice: Choice, execution: Execution, prepared: Prepared) -> Choice:
    """Take the batch size of a network that has only one, unless another was asked for."""
    form = prepared.spec.form
    if execution.get("batch_size") is None and form is not None and form.batch is not None:
        return replace(choice, batch_size=form.batch)
    return choice


def _introduce(trial: Trial, data: str | os.PathLike[str], path: Path) -> list[str]:
    """Log what is going to be evaluated, and return what to know before trusting a score."""
    network, dataset, choice = trial.prepared.record, trial.dataset, trial.choice
    for note in (*trial.prepared.notes, *dataset.all_notes()):
        log.info("%s", note)
    short = {name: value for name, value in trial.facts.items() if not isinstance(value, Mapping)}
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in short.items())
    log.info("model: %s (%s), from %s", network.model, facts, path)
    assumed = f" (assumed: {', '.join(network.assumed)})" if network.assumed else ""
    log.info("preprocessing: %s%s", network.preprocessing.describe(), assumed)
    log.info(
        "data: %d images of %s (%s); %s on %s, %d processes of %d threads",
        len(dataset), data, dataset.layout, trial.prepared.spec.describe(),
        choice.device, choice.workers, choice.threads,
    )  # fmt: skip
    warnings = trial.task.evaluation.warnings(dataset, network)
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def _sizes_assumed(prepared: Prepared, remarks: Sequence[str]) -> list[str]:
    """Log and return remarks on the sizes of the images; none where somebody stated what the network expects."""
    if not {"image_size", "crop_pct"} & set(prepared.record.assumed):
        return []
    for remark in remarks:
        log.warning("%s", remark)
    return list(remarks)


def _finished(folder: Path, setup: Mapping[str, Any], ranks: Ranks) -> dict[str, Any] | None:
    """Return the result of the same evaluation where it is finished already, in all processes."""
    result = finished_result(folder, setup) if ranks.first else None
    if not ranks.sum([result is not None])[0]:
        return None
    log.info("%s is finished already", folder)
    shared: dict[str, Any] = ranks.from_first(result)
    return shared


def _measure(single: WorkerPool, trial: Trial, ranks: Ranks) -> tuple[dict[str, Any], list[str]]:
    """Return the latency for the result, and remarks on image sizes; the first process measures for all."""
    prepared = trial.prepared
    preprocessing = prepared.record.preprocessing
    paths = _readable_images(trial.dataset, preprocessing) if ranks.first else []
    latency = single.call(measure_latency, prepared.spec, preprocessing, paths) if ranks.first else None
    latency = ranks.from_first(latency)
    remarks = size_problems([_size_of(path) for path in paths], preprocessing)
    return {"latency_ms": latency["median"], "latency": latency}, remarks


def _readable_images(dataset: Dataset, preprocessing: Preprocessing) -> list[Path]:
    """Return the first images that can be read, for timing; the evaluation reports what is wrong with the others."""
    paths = []
    for record in dataset.records[: 2 * LATENCY_IMAGES]:
        try:
            pixels_of(record.path, preprocessing)
        except ImageError:
            continue
        paths.append(record.path)
    return paths[:LATENCY_IMAGES]


def _size_of(path: Path) -> tuple[int, int]:
    """Return width and height of an image that has been read before, from its header."""
    with Image.open(path) as image:
        return image.size


def _run(
    journal: Journal, trial: Trial, unreadable: str, progress: Progress | None, ranks: Ranks
) -> tuple[Counts, dict[str, Any]]:
    """Predict what the journal does not hold yet; return the counts of all rows, and the speed of the new ones."""
    dataset, work = trial.dataset, trial.work(unreadable)
    counts = trial.task.evaluation.counts(trial.facts)
    done = _take_over(journal, trial, unreadable, ranks)
    for row in journal.rows:
        counts.add(row)
    if done:
        log.info("resumed: %d of %d images were there", done, len(dataset))
    if progress:
        progress(done, len(dataset), counts.correct)

    def count(rows: Sequence[Any]) -> None:
        journal.add(rows)
        for row in rows:
            counts.add(row)
            if row.error is not None:
                log.warning("counted as wrong: %s", row.error)
        if progress:
            progress(counts.images, len(dataset), counts.correct)

    remaining = dataset.records[done:]
    seconds = _predict(remaining, work, trial.choice, ranks, count) if remaining else 0.0
    if counts.images != len(dataset):
        raise DataError(f"{counts.images} predictions for {len(dataset)} images; the journal is not complete")
    return counts, {
        "images_per_second": round(len(remaining) / seconds, 2) if remaining else None,
        "resumed_images": done,
    }


def _take_over(journal: Journal, trial: Trial, unreadable: str, ranks: Ranks) -> int:
    """Give the rows of the first process' journal to all processes, check them, and return their number."""
    done = int(ranks.sum([len(journal.rows) if ranks.first else 0])[0])
    if done and ranks.world > 1:
        rows_of_first = ranks.from_first([row.to_dict() for row in journal.rows] if ranks.first else None)
        if not ranks.first:
            journal.add(trial.read_row(values, index) for index, values in enumerate(rows_of_first))
    for row, record in zip(journal.rows, trial.dataset.records, strict=False):
        if row.error is not None and unreadable == "stop":
            raise UsageError(
                f"{journal.path} counts {record.path} as wrong, which could not be read; add --unreadable wrong, or "
                "delete the journal to start anew"
            )
        if row.bytes is not None and row.bytes != record.path.stat().st_size:
            raise UsageError(
                f"{record.path} has {record.path.stat().st_size} bytes, and had {row.bytes} when it was evaluated; "
                f"restore it, or delete {journal.path} to start anew"
            )
    return done


def _predict(
    records: Sequence[Record], work: ChunkWork, choice: Choice, ranks: Ranks, count: Callable[[Sequence[Any]], None]
) -> float:
    """Hand the rows of all records to `count`, a chunk at a time; return the seconds that took.

    Raises:
        ImageError: an image that cannot be read, where that was to stop the evaluation. The journal keeps the chunks
            before it, for --resume.
    """
    # A run that leaves cores free does not claim any, or two such runs would claim the same.
    share = choice.threads if choice.workers * choice.threads * launched_here() >= available_cores() else None
    problems: list[str] = []
    with WorkerPool(choice.workers, choice.environment(), threads=share) as pool:
        # Starting the processes is left out of the speed.
        list(pool.map(warm_up, [work] * choice.workers))
        started = time.perf_counter()
        for rows in predict_together(ranks, pool, work, records):
            if work.unreadable == "stop" and (problems := [row.error for row in rows if row.error is not None]):
                break
            count(rows)
        seconds = time.perf_counter() - started
    if problems:
        if ranks.world > 1:
            raise_unreadable(problems, _WAY_OUT, complete=False)
        log.warning("an image cannot be read; looking for others: %s", problems[0])
        behind = [record for record in records if record.index > rows[-1].index]
        _refuse_unreadable(behind, choice, problems, work.preprocessing)
    return seconds


def _refuse_unreadable(
    records: Sequence[Record], choice: Choice, problems: Sequence[str] = (), preprocessing: Preprocessing | None = None
) -> NoReturn:
    """Raises ImageError with `problems` and those of the records."""
    further, complete = unreadable_images(records, choice.workers, preprocessing)
    raise_unreadable([*problems, *further], _WAY_OUT, complete=complete)
