"""Time calls of opened networks in turns: a process for each network, and rounds of a few calls that go over all.

The functions without a process in their arguments run inside such a process.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.machine.environment import peak_memory_mib
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.stopping import Stop
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime

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


@dataclass(frozen=True)
class Timing:
    """The calls of one network."""

    seconds: list[float]  # of each call
    first: list[float]  # of each call of the first network in the same rounds
    start_up_ms: float
    peak_memory_mib: float | None


class Opened:
    """The network and the input of this process: attributes of the type itself, as there is one of each."""

    runtime: Runtime
    batch: Floats


def noise(batch_size: int, image_size: int) -> Floats:
    """Return normal noise [N, 3, S, S], the same every time."""
    return np.random.default_rng(0).standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)


def open_network(timed: Timed) -> float:
    """Open the network and predict once; return the milliseconds since before the runtime was imported."""
    Opened.batch = noise(timed.batch_size, timed.image_size)
    started = time.perf_counter()
    Opened.runtime = open_runtime(timed.spec)
    Opened.runtime.predict(Opened.batch)
    milliseconds = 1000 * (time.perf_counter() - started)
    gc.disable()  # a collection would fall into some call or other
    return milliseconds


def burst(calls: int) -> list[float]:
    """Return the seconds of each of `calls` calls, after one that wakes the threads."""
    Opened.runtime.predict(Opened.batch)
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        Opened.runtime.predict(Opened.batch)
        seconds.append(time.perf_counter() - started)
    return seconds


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

        def timing(index: int, memory: float | None) -> Timing:
            return Timing(seconds[index], seconds[0], start_up[index], memory)

        finished = 0
        try:
            for number in range(ROUNDS):
                for index, pool in enumerate(pools):
                    seconds[index] += pool.call(burst, calls_per_round)
                    if group[index].spec.threads > 1:
                        time.sleep(REST_SECONDS)
                    if number == ROUNDS - 1:
                        memory = round(pool.call(peak_memory_mib), 1)
                        finished += 1
                        yield timing(index, memory)
        except (KeyboardInterrupt, Stop):
            for index in range(finished, len(group)):
                if seconds[index]:
                    yield timing(index, None)
            raise
