"""Collect the rows of an evaluation: those that the journal has, then those that the workers make, and count them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mobilenext.data import Preprocessing, Record
from mobilenext.data.check import unreadable_images
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import DataError, UsageError
from mobilenext.evaluation.outcome import Trial
from mobilenext.evaluation.pipeline import ChunkWork, predict_together, warm_up
from mobilenext.machine.cores import available_cores
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.runs.journal import Journal
from mobilenext.sources.choice import Choice
from mobilenext.task import Counts

log = logging.getLogger(__name__)

_WAY_OUT = "count them as wrong: --unreadable wrong"

# Images done, images in all, and right answers so far: an int, or None where the task counts none.
Progress = Callable[[int, int, Any], None]


def collect_rows(
    journal: Journal, trial: Trial, unreadable: str, progress: Progress | None, ranks: Ranks, pool: WorkerPool
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
    seconds = _predict(remaining, work, pool, ranks, count) if remaining else 0.0
    if counts.images != len(dataset):
        raise DataError(f"{counts.images} predictions for {len(dataset)} images; the journal is not complete")
    return counts, {
        "images_per_second": round(len(remaining) / seconds, 2) if remaining else None,
        "resumed_images": done,
    }


def workers_of(choice: Choice) -> WorkerPool:
    """Return the processes that predict; they are started when there is work for them."""
    # A run that leaves cores free does not claim any, or two such runs would claim the same.
    share = choice.threads if choice.workers * choice.threads * launched_here() >= available_cores() else None
    return WorkerPool(choice.workers, choice.environment(), threads=share)


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
    records: Sequence[Record], work: ChunkWork, pool: WorkerPool, ranks: Ranks, count: Callable[[Sequence[Any]], None]
) -> float:
    """Hand the rows of all records to `count`, a chunk at a time; return the seconds that took.

    Raises:
        ImageError: an image that cannot be read, where that was to stop the evaluation. The journal keeps the chunks
            before it, for --resume.
    """
    problems: list[str] = []
    list(pool.map(warm_up, [work] * pool.workers))  # is left out of the speed
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
        refuse_unreadable(behind, pool.workers, problems, work.preprocessing)
    return seconds


def refuse_unreadable(
    records: Sequence[Record], workers: int, problems: Sequence[str] = (), preprocessing: Preprocessing | None = None
) -> NoReturn:
    """Raises ImageError with `problems` and those of the records."""
    further, complete = unreadable_images(records, workers, preprocessing)
    raise_unreadable([*problems, *further], _WAY_OUT, complete=complete)
