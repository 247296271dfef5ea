"""From records to predictions: how the work is divided, and what each worker process does with its share."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.classification.metrics import Prediction, predictions_of
from mobilenext.data import LabelledImage as Record
from mobilenext.data import Preprocessing, pixels_of
from mobilenext.errors import ImageError, UsageError
from mobilenext.machine.pool import WorkerPool, available_cores
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.runtime import RuntimeSpec, open_runtime, resolve_device

ROUND = 64  # images of each worker of each process, before processes exchange their rows
CHUNK = 8  # images handed to a worker at a time; more would make a small data set uneven, less costs messages


@dataclass(frozen=True)
class Plan:
    """How the work is divided; it must not change any count."""

    device: str
    workers: int
    threads: int
    batch_size: int

    def environment(self) -> dict[str, str]:
        """For the worker processes, whose libraries read it when they are loaded."""
        return compute_environment(self.threads)


def make_plan(device: str, workers: int | None, threads: int | None, batch_size: int | None) -> Plan:
    """Fill in what was not asked for: on a CPU one single-threaded process a core, one image at a time.

    Several processes that Paddle's launcher has started on this machine share its cores.

    Raises:
        UsageError: a number below one, or a device that is not there.
    """
    for name, value in (("workers", workers), ("threads", threads), ("batch_size", batch_size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} is {value!r}; expected a whole number from 1 up")
    device = resolve_device(device)
    cores = max(1, available_cores() // launched_here())
    threads = threads or 1
    if device == "cpu" and threads > cores:
        raise UsageError(f"threads is {threads}, but this process may use {cores} cores; choose up to {cores}")
    return Plan(
        device=device,
        workers=workers or (max(1, cores // threads) if device == "cpu" else min(8, cores)),
        threads=threads,
        batch_size=batch_size or (1 if device == "cpu" else 64),
    )


@dataclass(frozen=True)
class Job:
    """What a worker does with each chunk of records."""

    spec: RuntimeSpec | None  # None: read and preprocess only
    preprocessing: Preprocessing
    batch_size: int
    unreadable: str  # what the caller does with an image that cannot be read: stop, or count it as wrong


_open_once = lru_cache(maxsize=1)(open_runtime)  # one network a process


def _read(job: Job, records: Sequence[Record]) -> list[tuple[Record, Any]]:
    """The pixels (uint8 [H, W, 3]) of each record, or the sentence that says why it cannot be read."""
    images: list[tuple[Record, Any]] = []
    for record in records:
        try:
            images.append((record, pixels_of(record.path, job.preprocessing)))
        except ImageError as error:
            images.append((record, str(error)))
    return images


def _predict(job: Job, predict: Callable[[Any], Any], images: Sequence[tuple[Record, Any]]) -> list[Prediction]:
    """Rows in the order of `images`; the network sees the readable ones, ``batch_size`` at a time."""
    readable = [(record, pixels) for record, pixels in images if not isinstance(pixels, str)]
    rows: dict[int, Prediction] = {}
    for start in range(0, len(readable), job.batch_size):
        records, pixels = zip(*readable[start : start + job.batch_size], strict=True)
        (logits,) = predict(job.preprocessing.normalize(np.stack(pixels)))
        for row in predictions_of(
            logits, (r.index for r in records), (r.name for r in records), (r.label for r in records)
        ):
            rows[row.index] = row
    for record, problem in images:
        if isinstance(problem, str):
            rows[record.index] = Prediction(record.index, record.name, record.label, (), (), None, problem)
    return [replace(rows[record.index], bytes=_size(record.path)) for record, _ in images]


def _size(path: Path) -> int | None:
    """The bytes of a file; None for a link to nowhere, which counts as unreadable."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _read_and_predict(job: Job, records: Sequence[Record]) -> list[Prediction]:
    assert job.spec is not None
    return _predict(job, _open_once(job.spec).predict, _read(job, records))


def warm_up(job: Job) -> None:
    """Import what is needed and, where this process will predict, open the network and use it once."""
    assert job.spec is not None
    if job.spec.device == "cpu":
        size = job.preprocessing.image_size
        _open_once(job.spec).predict(np.zeros((1, 3, size, size), np.float32))


def predict_records(pool: WorkerPool, job: Job, records: Sequence[Record]) -> Iterator[list[Prediction]]:
    """Rows for all `records`, in their order, a chunk at a time."""
    size = math.ceil(CHUNK / job.batch_size) * job.batch_size
    chunks = [records[start : start + size] for start in range(0, len(records), size)]
    assert job.spec is not None
    if job.spec.device == "cpu":
        yield from pool.map(partial(_read_and_predict, job), chunks)
    else:
        network = open_runtime(job.spec)
        for images in pool.map(partial(_read, replace(job, spec=None)), chunks):
            yield _predict(job, network.predict, images)


def predict_together(ranks: Ranks, pool: WorkerPool, job: Job, records: Sequence[Record]) -> Iterator[list[Prediction]]:
    """The same by all processes of a distributed run: each predicts its part of every round, and all get the rows."""
    if ranks.world == 1:
        yield from predict_records(pool, job, records)
        return
    share = ROUND * pool.workers
    rounds = [records[start : start + share * ranks.world] for start in range(0, len(records), share * ranks.world)]
    mine = [part[ranks.rank * share : (ranks.rank + 1) * share] for part in rounds]
    predicted = itertools.chain.from_iterable(predict_records(pool, job, [record for part in mine for record in part]))
    for part in mine:
        rows = list(itertools.islice(predicted, len(part)))
        content = json.dumps([row.to_dict() for row in rows]).encode()
        yield [Prediction.from_dict(values) for each in ranks.gather(content) for values in json.loads(each)]
