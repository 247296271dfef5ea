"""From records to rows: read and preprocess, predict, score; divided among processes, and always in order."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.data import Preprocessing, Record, pixels_of
from mobilenext.data.resampling import begin
from mobilenext.errors import ImageError
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime, outputs_of
from mobilenext.task import Evaluation, Facts

ROUND = 64  # images of each worker of each process, before processes exchange their rows
CHUNK = 8  # images handed to a worker at a time: more would make a journal late, fewer cost messages


@dataclass(frozen=True)
class ChunkWork:
    """What a worker does with each chunk of records."""

    spec: RuntimeSpec | None  # None: read and preprocess only
    preprocessing: Preprocessing
    batch_size: int
    unreadable: str  # stop | wrong: what happens to an image that cannot be read
    evaluation: Evaluation  # of the task
    facts: Facts  # of the network, for the task
    flip: bool = False  # the network sees the mirrored images as well
    images: int = 0  # of a worker, about


_open_once = lru_cache(maxsize=1)(open_runtime)  # a process opens one network, however many chunks it gets


def _read(work: ChunkWork, records: Sequence[Record]) -> list[tuple[Record, Any]]:
    """Return each record with its pixels (uint8 [H, W, 3]), or with the sentence that says why it cannot be read."""
    images: list[tuple[Record, Any]] = []
    for record in records:
        try:
            images.append((record, pixels_of(record.path, work.preprocessing)))
        except ImageError as error:
            images.append((record, str(error)))
    return images


def _predict(work: ChunkWork, runtime: Runtime, images: Sequence[tuple[Record, Any]]) -> list[Any]:
    """Return rows in the order of `images`; the network sees the readable ones, ``batch_size`` at a time."""
    readable = [(record, pixels) for record, pixels in images if not isinstance(pixels, str)]
    rows: dict[int, Any] = {}
    for start in range(0, len(readable), work.batch_size):
        records, pixels = zip(*readable[start : start + work.batch_size], strict=True)
        batch = work.preprocessing.normalize(np.stack(pixels))  # [N, 3, S, S]
        outputs = outputs_of(runtime, batch, flip=work.flip)  # several [N, ...]
        for row in work.evaluation.rows(outputs, records, work.facts):
            rows[row.index] = row
    for record, problem in images:
        if isinstance(problem, str):
            rows[record.index] = work.evaluation.unreadable(record, problem)
    return [replace(rows[record.index], bytes=_size(record.path)) for record, _ in images]


def _size(path: Path) -> int | None:
    """Return the bytes of a file; None for a link to nowhere, which counts as unreadable."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _read_and_predict(work: ChunkWork, records: Sequence[Record]) -> list[Any]:
    assert work.spec is not None
    return _predict(work, _open_once(work.spec), _read(work, records))


def warm_up(work: ChunkWork) -> None:
    """Import what is needed and, where this process will predict, open the network and use it once."""
    assert work.spec is not None
    begin(work.images, work.preprocessing.interpolation, work.preprocessing.image_size)
    if work.spec.device == "cpu":
        size = work.preprocessing.image_size
        _open_once(work.spec).predict(np.zeros((1, 3, size, size), np.float32))


def divide(records: Sequence[Record], batch_size: int, workers: int) -> list[Sequence[Record]]:
    """Return the records in chunks of whole batches: of about `CHUNK`, and of fewer at the end.

    So all workers end at about the same time: with chunks of 8 images one may have 8 left when the others are done.
    """
    chunks, start = [], 0
    while start < len(records):
        share = min(CHUNK, (len(records) - start) / (2 * workers))
        size = math.ceil(share / batch_size) * batch_size
        chunks.append(records[start : start + size])
        start += size
    return chunks


def predict_records(pool: WorkerPool, work: ChunkWork, records: Sequence[Record]) -> Iterator[list[Any]]:
    """Yield rows for all `records`, in their order, a chunk at a time."""
    chunks = divide(records, work.batch_size, pool.workers)
    assert work.spec is not None
    if work.spec.device == "cpu":
        yield from pool.map(partial(_read_and_predict, work), chunks)
    else:
        # A GPU is used by this process alone; the workers read and preprocess.
        runtime = open_runtime(work.spec)
        for images in pool.map(partial(_read, replace(work, spec=None)), chunks):
            yield _predict(work, runtime, images)


def predict_together(ranks: Ranks, pool: WorkerPool, work: ChunkWork, records: Sequence[Record]) -> Iterator[list[Any]]:
    """Yield the same in a distributed run: each process predicts its part of every round, and all get the rows."""
    if ranks.world == 1:
        yield from predict_records(pool, work, records)
        return
    share = ROUND * pool.workers  # records of one process in a round
    rounds = [records[start : start + share * ranks.world] for start in range(0, len(records), share * ranks.world)]
    own = [part[ranks.rank * share : (ranks.rank + 1) * share] for part in rounds]
    predicted = itertools.chain.from_iterable(predict_records(pool, work, [record for part in own for record in part]))
    for whole, part in zip(rounds, own, strict=True):
        rows = list(itertools.islice(predicted, len(part)))
        gathered = ranks.gather(json.dumps([row.to_dict() for row in rows]).encode())
        # The parts of the processes, one after the other, are the round in order.
        values = [value for content in gathered for value in json.loads(content)]
        yield [
            work.evaluation.read_row(value, record.index, work.facts, record)
            for value, record in zip(values, whole, strict=True)
        ]
