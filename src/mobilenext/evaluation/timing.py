"""Time calls of opened networks in turns: a process for each network, and rounds of a few calls that go over all.

The functions without a process in their arguments run inside such a process.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.export.post_processing import PostProcessing
from mobilenext.machine.environment import peak_memory_mib
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.stopping import Stop
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime
from mobilenext.weights.record import WeightsRecord

ROUNDS = 5
GROUP = 20  # processes alive at once
GEMM_SIDE = 1024
REST_SECONDS = 0.2  # after a burst: the threads of some runtimes spin for so long before they sleep
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timed:
    """A network that is timed: what is opened, and the shape of its input [batch_size, 3, image_size, image_size]."""

    spec: RuntimeSpec
    batch_size: int
    image_size: int
    images: Path | None = None  # normalized [K, 3, S, S], a NumPy file: these are its input, in turns; None: noise
    answering: Answering | None = None  # belongs to each call


@dataclass(frozen=True)
class Answering:
    """What follows the network in a call: its outputs become answers."""

    post_processing: PostProcessing
    record: WeightsRecord


@dataclass(frozen=True)
class AnswerTiming:
    """The part of the calls in which outputs became answers."""

    seconds: list[float]  # of each call
    amounts: dict[str, float]  # per image, the mean of all inputs: what the time depends on


@dataclass(frozen=True)
class Timing:
    """The calls of one network."""

    seconds: list[float]  # of each call
    first: list[float]  # of each call of the first network in the same rounds
    start_up_ms: float
    peak_memory_mib: float | None
    answers: AnswerTiming | None = None


@dataclass
class Opened:
    """A network, its inputs and what follows it."""

    here: ClassVar[Opened]  # that of this process

    runtime: Runtime
    batches: list[Floats]
    answering: Answering | None
    turns: Iterator[int] = field(default_factory=count)
    answer_seconds: list[float] = field(default_factory=list)


def noise(batch_size: int, image_size: int) -> Floats:
    """Return normal noise [N, 3, S, S], the same every time."""
    return np.random.default_rng(0).standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)


def batches_of(timed: Timed) -> list[Floats]:
    """Return the inputs that are taken in turns: each image once, the last batch filled up with the first images."""
    if timed.images is None:
        return [noise(timed.batch_size, timed.image_size)]
    images: Floats = np.load(timed.images, allow_pickle=False)  # [K, 3, S, S]
    starts = range(0, len(images), timed.batch_size)
    return [images.take(range(start, start + timed.batch_size), axis=0, mode="wrap") for start in starts]


def open_network(timed: Timed) -> float:
    """Open the network and predict once; return the milliseconds since before the runtime was imported."""
    batches = batches_of(timed)
    started = time.perf_counter()
    Opened.here = Opened(open_runtime(timed.spec), batches, timed.answering)
    _call()
    milliseconds = 1000 * (time.perf_counter() - started)
    gc.disable()  # a collection would fall into some call or other
    return milliseconds


def _call() -> tuple[float, float]:
    """Predict the next batch; return the seconds of the whole call, and of its answers."""
    opened = Opened.here
    batch = opened.batches[next(opened.turns) % len(opened.batches)]
    started = time.perf_counter()
    outputs = opened.runtime.predict(batch)
    if opened.answering is None:
        return time.perf_counter() - started, 0.0
    predicted = time.perf_counter()
    opened.answering.post_processing.answers(outputs, opened.answering.record)
    finished = time.perf_counter()
    return finished - started, finished - predicted


def burst(calls: int) -> list[float]:
    """Return the seconds of each of `calls` calls, after one that wakes the threads."""
    _call()
    seconds = [_call() for _ in range(calls)]
    Opened.here.answer_seconds += [answers for _, answers in seconds]
    return [whole for whole, _ in seconds]


def answer_timing(calls: int) -> AnswerTiming | None:
    """Return the part of the last `calls` calls that made answers, and their amounts; None where none are made."""
    opened = Opened.here
    if opened.answering is None:
        return None
    totals: dict[str, int] = {}
    for batch in opened.batches:
        numbers = opened.answering.post_processing.amounts(opened.runtime.predict(batch), opened.answering.record)
        totals = {name: totals.get(name, 0) + number for name, number in numbers.items()}
    images = sum(map(len, opened.batches))
    return AnswerTiming(opened.answer_seconds[-calls:], {name: total / images for name, total in totals.items()})


def warm_up() -> float:
    """Predict until five calls take as long as the five before them, for at most three seconds; return their median."""
    until = time.perf_counter() + 3
    now = before = np.inf
    while time.perf_counter() < until:
        now = float(np.median(burst(5)))
        if abs(now - before) < 0.03 * before:
            break
        before = now
    return now


def gemm_gmacs(threads: int) -> float:
    """Measure the processor's limit in a process of its own.

    Returns:
        Multiply-accumulates a second of a large float32 matrix product, in units of 10^9.
    """
    with WorkerPool(1, compute_environment(threads)) as single:
        return single.call(_gemm_here)


def _gemm_here() -> float:
    a, b = np.random.default_rng(0).standard_normal((2, GEMM_SIDE, GEMM_SIDE), dtype=np.float32)
    out = np.empty_like(a)
    best = np.inf
    for _ in range(40):
        started = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return float(GEMM_SIDE**3 / best / 1e9)


def time_in_turns(networks: Sequence[Timed], samples: int) -> Iterator[Timing]:
    """Yield the timing of each network in order, with that of the first one from the same rounds.

    More networks than `GROUP` are timed in groups, and the first network is in each of them: a ratio always compares
    calls from the same rounds.

    Args:
        networks: at least one.
        samples: timed calls of each, at least.
    """
    groups = [list(networks[:GROUP])]
    rest = networks[GROUP:]
    groups += [[networks[0], *rest[start : start + GROUP - 1]] for start in range(0, len(rest), GROUP - 1)]
    for number, group in enumerate(groups):
        if len(groups) > 1:
            log.info("group %d of %d", number + 1, len(groups))
        for place, timing in enumerate(_time_group(group, samples)):
            if place or not number:  # the first network is in each group, and is yielded once
                yield timing


def _time_group(group: Sequence[Timed], samples: int) -> Iterator[Timing]:
    """Yield the timing of each network; after Ctrl-C or another signal, of those that have been timed by then."""
    calls_per_round = -(-samples // ROUNDS)
    seconds: list[list[float]] = [[] for _ in group]
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(WorkerPool(1, compute_environment(timed.spec.threads))) for timed in group]
        # One after the other: starting is timed too.
        start_up = [pool.call(open_network, timed) for pool, timed in zip(pools, group, strict=True)]
        calls = [pool.call(warm_up) for pool in pools]
        rests = REST_SECONDS * sum(timed.spec.threads > 1 for timed in group)
        log.info("%d rows: about %.0f s", len(group), ROUNDS * ((calls_per_round + 1) * sum(calls) + rests))

        def timing(index: int, memory: float | None, answers: AnswerTiming | None = None) -> Timing:
            return Timing(seconds[index], seconds[0], start_up[index], memory, answers)

        finished = 0
        try:
            for number in range(ROUNDS):
                for index, pool in enumerate(pools):
                    seconds[index] += pool.call(burst, calls_per_round)
                    if group[index].spec.threads > 1:
                        time.sleep(REST_SECONDS)
                    if number == ROUNDS - 1:
                        memory = round(pool.call(peak_memory_mib), 1)
                        answers = pool.call(answer_timing, len(seconds[index])) if group[index].answering else None
                        finished += 1
                        yield timing(index, memory, answers)
        except (KeyboardInterrupt, Stop):
            for index in range(finished, len(group)):
                if seconds[index]:
                    yield timing(index, None)
            raise
