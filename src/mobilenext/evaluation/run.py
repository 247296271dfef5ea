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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Dataset
from mobilenext.data.resampling import expect
from mobilenext.errors import UsageError
from mobilenext.evaluation.collecting import Progress, collect_rows, refuse_unreadable, workers_of
from mobilenext.evaluation.importing import import_in_turn
from mobilenext.evaluation.latency import latency_of_trial
from mobilenext.evaluation.outcome import Trial, finished_result, write_outcome
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.machine.ranks import Ranks
from mobilenext.origin import now, origin
from mobilenext.runs.journal import Journal
from mobilenext.runs.result import EvaluationResult
from mobilenext.runs.setups import require_same
from mobilenext.runtime import likely_runtime
from mobilenext.sources.choice import Choice, choose
from mobilenext.sources.find import find_subject, task_of
from mobilenext.sources.options import Execution, Scoring, Selection, Source, split_options, take_options
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.task import Evaluated, Task
from mobilenext.tasks import task_of_file

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.sources.options import EvaluationOptions

log = logging.getLogger(__name__)
IDLE_S = 1.0  # opening a long list takes longer, and does not need the memory that Paddle takes


def evaluate(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    unreadable: str = "stop",
    resume: bool = False,
    progress: Progress | None = None,
    **options: Unpack[EvaluationOptions],
) -> EvaluationResult:
    """Evaluate a network on a data set: its scores, its latency, and how it compares with a published number.

        print(mobilenext.evaluate("imagenet", weights="mobilenext_x1_0.safetensors", output="run"))

    Args:
        data: a folder in one of the layouts of :func:`mobilenext.data.open_dataset`.
        output: a folder for ``result.json``, ``predictions.jsonl`` and the journal; None keeps nothing.
        unreadable: ``stop``, or ``wrong`` to count an unreadable image as a wrong answer.
        resume: go on with the journal in `output`.
        progress: called at the start, with what a resumed journal holds, and after each chunk.
        options: model, weights, exported, onnx, use, section, identity_divisor, preprocessing, labels, output_name name
            the network; device, runtime, engine, precision, threads, batch_size, workers say how it is run; list_file,
            split and limit select images. `mobilenext.sources.options` describes each, and those of answers.

    Returns:
        The content of ``result.json``, as a dictionary that prints as the table.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError, DownloadError: of what was read.
        OutputError: the output cannot be written. CheckFailed: no runtime computes what the network does.
    """
    started = now()
    source, execution, selection, scoring, workers = _sort(options)
    _check(output, unreadable, resume, selection)
    choice, subject = choose(execution, workers), find_subject(**source)
    task = task_of_file(task_of(subject), subject.path)
    with watched_scratch_folder(output) as scratch, workers_of(choice) as pool:
        # Another process prepares: this one stays small, and the latency is measured while nothing else runs.
        with WorkerPool(1, choice.environment(), idle_s=IDLE_S) as single:
            starting, preparing = single.start(str), single.start(prepare, subject, scratch, choice)
            answering, whole = task.options_of(scoring), _open(task, data, selection, choice, unreadable)
            _begin_imports(pool, choice, scratch, starting)
            prepared = preparing()
            dataset = task.evaluation.fit_data(whole, prepared).first(selection.get("limit"))
            trial = Trial(task, prepared, dataset, _with_fixed_batch(choice, execution, prepared), answering)
            warnings = _introduce(trial, data, subject.path)
            require_same(ranks := Ranks(), setup := trial.setup())
            folder = Path(output) if output is not None and ranks.first else scratch / "output"
            if resume and (finished := _finished(folder, setup, ranks)) is not None:
                return EvaluationResult(finished)
            journal = Journal(folder, setup, trial.read_row, resume=resume)
            latency, remarks = latency_of_trial(single, trial, ranks)
        warnings += _sizes_assumed(prepared, remarks)
        with journal:
            counts, speed = collect_rows(journal, trial, unreadable, progress, ranks, pool)
        evaluated = Evaluated(prepared, dataset, journal.rows, counts, remarks)
        result = trial.headline(setup) | {"warnings": warnings, "processes": ranks.world}
        result |= _task_fields(task, evaluated) | latency | speed | origin(started) | {"environment": environment()}
        if ranks.first:
            write_outcome(folder, journal, result, task.evaluation.files(evaluated))
    return EvaluationResult(result)


def _begin_imports(pool: WorkerPool, choice: Choice, scratch: Path, starting: Callable[[], object]) -> None:
    """Let the workers import, while the network is prepared, what they will need.

    They begin when `starting` returns, which waits for the process that prepares: on few cores they would delay it.
    """
    starting()
    runtime = likely_runtime(choice.runtime) if choice.device == "cpu" else None
    pool.begin(partial(import_in_turn, scratch / "imports.lock", runtime, available_cores()))


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
    """Open the data, and look at the files already where unreadable ones stop the evaluation.

    Raises:
        DatasetError: problems of the data set. ImageError: formats that are not read, among the images selected.
    """
    dataset = task.evaluation.open_data(data, list_file=selection.get("list_file"), split=selection.get("split"))
    selected = dataset.first(selection.get("limit"))
    if unreadable == "stop" and selected.unreadable:
        refuse_unreadable(selected.records, choice.workers)
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
    expect(len(dataset), network.preprocessing.interpolation, network.preprocessing.image_size)
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
