"""Latency of networks and runtimes, side by side in one run.

Every row (network, runtime, threads, batch) has a process of its own, so that its memory and its start-up are its own.
All rows are opened and warmed up first; then the rounds go over them, a few calls of each while the others sleep, so
that the machine's mood meets them all alike. More rows than fit into memory are measured in groups, and the first row
is in each of them: a ratio always compares what was measured in turns.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.errors import CheckFailed, MissingDependency, UsageError
from mobilenext.machine.environment import environment
from mobilenext.machine.packages import installed, require_paddle
from mobilenext.machine.pool import WorkerPool, available_cores, watched_scratch_folder
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.stopping import Stop
from mobilenext.models import MODELS, find_model
from mobilenext.origin import now, origin
from mobilenext.runtime import RUNTIMES, Runtime, RuntimeSpec, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import Subject, find_subject
from mobilenext.sources.prepare import Prepared, prepare

FEWEST_SAMPLES = 30
ROUNDS = 5
GROUP = 20  # processes alive at once
GEMM_SIDE = 1024
REST_SECONDS = 0.2  # after a burst: the threads of some runtimes look for work for so long before they sleep

Progress = Callable[[int, int], None]  # rows measured, rows in all
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """What is opened in a row: a name for the table, and where it is."""

    name: str
    subject: Subject
    identity_divisor: int
    image_size: int
    mult_adds: int | None  # of one image; None where nobody has counted


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    network: Network
    spec: RuntimeSpec
    batch_size: int


def bench(
    *,
    models: Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    exported: Sequence[str | os.PathLike[str]] = (),
    onnx: Sequence[str | os.PathLike[str]] = (),
    runtimes: Sequence[str] = ("auto",),
    engine: str = "auto",
    precision: str | None = None,
    threads: Sequence[int] = (1,),
    batch_sizes: Sequence[int] = (1,),
    image_size: int | None = None,
    identity_divisors: Sequence[int] = (1,),
    samples: int = 50,
    progress: Progress | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Measure every combination.

    Ctrl-C ends the measuring: the rows that have been timed by then are returned, and the result says ``partial``.

    Args:
        models: names; without `weights` they are freshly initialised, which does not change their speed.
        weights: a file or a tag, for one model.
        exported, onnx: folders of ``mobilenext export`` and ONNX files, beside the models.
        runtimes: ``auto``, names, ``name:engine``, or ``all`` for every installed runtime with every engine.
        engine: of Paddle Inference on a CPU.
        precision: as in ``evaluate``.
        threads, batch_sizes: each of them.
        image_size: pixels; of models, the default is 224 or that of the weights.
        identity_divisors: of the MobileNeXt models.
        samples: timed calls of each row, at least 30.
        progress: called after each row.
        on_row: called with each row of the result as soon as it is measured.

    Returns:
        ``configuration``, ``environment``, ``gemm_gmacs``, ``partial``, ``rows``, and ``skipped``: with ``all``,
        combinations that cannot run here, and why.

    Raises:
        UsageError: too few samples, nothing to measure, or what was asked for by name cannot run.
    """
    if samples < FEWEST_SAMPLES:
        raise UsageError(f"samples is {samples}; expected at least {FEWEST_SAMPLES}, or a median says little")
    for name, values in (("threads", threads), ("batch_size", batch_sizes), ("identity_divisor", identity_divisors)):
        for value in values:
            if value < 1:
                raise UsageError(f"{name} is {value}; expected a whole number from 1 up")
    if max(threads, default=1) > available_cores():
        raise UsageError(f"threads is {max(threads)}, but this process may use {available_cores()} cores")
    if weights is not None and len(models) != 1:
        raise UsageError(f"weights were given for {len(models)} models; expected one")
    if not (models or exported or onnx):
        raise UsageError("nothing to measure; expected --model, --exported or --onnx")
    started, before = now(), environment()
    with watched_scratch_folder() as work:
        gemm = {count: _gemm(count) for count in threads}
        networks = list(_networks(work, models, weights, exported, onnx, image_size, identity_divisors))
        rows, skipped = _rows(work, networks, runtimes, engine, precision, threads, batch_sizes)
        if not rows:
            raise UsageError("nothing here can be measured: " + "; ".join(entry["reason"] for entry in skipped))
        finished: list[dict[str, Any]] = []
        partial = False
        try:
            for row, measurement in _measure(rows, samples):
                finished.append(_finished(row, measurement, rows[0].batch_size, gemm))
                if on_row:
                    on_row(finished[-1])
                if progress:
                    progress(len(finished), len(rows))
        except (KeyboardInterrupt, Stop):
            if not finished:
                raise
            partial = True
    after = environment()
    return {
        "configuration": {
            "samples": samples,
            "rounds": ROUNDS,
            "threads": list(threads),
            "batch_sizes": list(batch_sizes),
            "input": "normal noise, resident in memory, the same for every call",
            "weights": "freshly initialised" if weights is None and models else "as given",
        },
        **origin(started),
        "environment": before,
        "load_average_after": after["load_average"],
        "gemm_gmacs": {str(count): round(value, 1) for count, value in gemm.items()},
        "partial": partial,
        "rows": finished,
        "skipped": skipped,
    }


# --- what is measured


def _networks(
    work: Path,
    models: Sequence[str],
    weights: str | os.PathLike[str] | None,
    exported: Sequence[str | os.PathLike[str]],
    onnx: Sequence[str | os.PathLike[str]],
    image_size: int | None,
    identity_divisors: Sequence[int],
) -> Iterator[Network]:
    fields = {} if image_size is None else {"image_size": image_size}
    for name in models:
        card = find_model(name.partition(".")[0])
        for divisor in identity_divisors if card.family == "mobilenext" else (1,):
            if weights is None and "." not in name:
                file = work / f"{card.name}.safetensors"
                if not file.is_file():
                    with WorkerPool(1, compute_environment(1)) as single:
                        single.call(_write_fresh, card.name, file)
                subject = Subject(file, "weights", card.name, identity_divisor=divisor, preprocessing=fields)
            else:
                subject = find_subject(model=name, weights=weights, identity_divisor=divisor, preprocessing=fields)
            yield Network(card.name, subject, divisor, image_size or 224, card.mult_adds if not image_size else None)
    for folder in exported:
        subject = replace(find_subject(exported=folder, preprocessing=fields), timed_only=True)
        yield Network(Path(folder).name, subject, 1, 0, None)
    for path in onnx:
        subject = replace(find_subject(onnx=path, preprocessing=fields), timed_only=True)
        yield Network(Path(path).stem, subject, 1, 0, None)


def _write_fresh(model: str, file: Path) -> None:
    """Weights of a freshly initialised network; the speed does not depend on them."""
    require_paddle()
    import paddle
    from safetensors.numpy import save_file

    from mobilenext.models import build_network

    paddle.seed(0)
    network = build_network(model)
    save_file({name: tensor.numpy() for name, tensor in network.state_dict().items()}, str(file))


def _rows(
    work: Path,
    networks: Sequence[Network],
    runtimes: Sequence[str],
    engine: str,
    precision: str | None,
    threads: Sequence[int],
    batch_sizes: Sequence[int],
) -> tuple[list[Row], list[dict[str, str]]]:
    """Every combination that can run, its files written; and those that cannot."""
    everything = list(runtimes) == ["all"]
    # "paddle-inference:onednn" names an engine for itself.
    ways = (
        _every_way() if everything else [(name, own or engine) for name, _, own in (r.partition(":") for r in runtimes)]
    )
    rows: list[Row] = []
    skipped: list[dict[str, str]] = []
    for number, network in enumerate(networks):
        for runtime, chosen in ways:
            folder = work / f"{number}-{runtime}-{chosen}"
            log.info("preparing %s for %s%s", network.name, runtime, f" ({chosen})" if chosen != "auto" else "")
            choice = Choice(runtime, chosen, precision=precision)
            try:
                with WorkerPool(1, compute_environment(1)) as single:
                    prepared, mult_adds = single.call(_prepare, network, folder, choice)
            except (UsageError, CheckFailed, MissingDependency) as error:
                if not everything:
                    raise
                skipped.append({"network": network.name, "runtime": f"{runtime} {chosen}", "reason": str(error)})
                continue
            found = Network(
                network.name,
                network.subject,
                prepared.record.identity_divisor,
                prepared.record.preprocessing.image_size,
                mult_adds,
            )
            for batch_size in batch_sizes:
                for count in threads:
                    spec = RuntimeSpec(**{**vars(prepared.spec), "threads": count})
                    rows.append(Row(found, spec, batch_size))
    return rows, skipped


def _every_way() -> list[tuple[str, str]]:
    """All installed runtimes with all their engines."""
    return [
        (card.name, each or "auto" if card.name == "paddle-inference" else "auto")
        for card in RUNTIMES.values()
        if installed(card.package)
        for each in card.engines
    ]


def _prepare(network: Network, folder: Path, choice: Choice) -> tuple[Prepared, int | None]:
    folder.mkdir()
    prepared = prepare(network.subject, folder, choice)
    if network.mult_adds is not None or prepared.record.model not in MODELS:
        return prepared, network.mult_adds
    from mobilenext.models import build_network
    from mobilenext.models.counting import count

    record = prepared.record
    network_here = build_network(record.model, num_classes=record.num_classes)
    return prepared, count(network_here, record.preprocessing.image_size).mult_adds


# --- measuring


def _gemm(threads: int) -> float:
    """Multiply-accumulates a second, in units of 10^9, of a large float32 matrix product: the processor's own limit."""
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


class _Opened:
    """The network and the input of this process."""

    runtime: Runtime
    batch: np.ndarray[Any, np.dtype[np.float32]]


def _open(row: Row) -> float:
    """Open the network, predict once; milliseconds since before the runtime was imported."""
    size = row.network.image_size
    _Opened.batch = np.random.default_rng(0).standard_normal((row.batch_size, 3, size, size), dtype=np.float32)
    started = time.perf_counter()
    _Opened.runtime = open_runtime(row.spec)
    _Opened.runtime.predict(_Opened.batch)
    milliseconds = 1000 * (time.perf_counter() - started)
    gc.disable()
    return milliseconds


def _burst(calls: int) -> list[float]:
    """Seconds of each of `calls` calls, after one that wakes the threads."""
    _Opened.runtime.predict(_Opened.batch)
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        _Opened.runtime.predict(_Opened.batch)
        seconds.append(time.perf_counter() - started)
    return seconds


def _warm_up() -> float:
    """Until the last calls take what those before them took, for at most three seconds; seconds of a call then."""
    until = time.perf_counter() + 3
    now = before = np.inf
    while time.perf_counter() < until:
        now = float(np.median(_burst(5)))
        if abs(now - before) < 0.03 * before:
            break
        before = now
    return now


def _peak_memory_mib() -> float | None:
    """The most that this process has had in memory (Linux)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def _measure(rows: Sequence[Row], samples: int) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Each row with its seconds, and those of the first row from the same rounds."""
    groups = [list(rows[:GROUP])]
    rest = rows[GROUP:]
    groups += [[rows[0], *rest[start : start + GROUP - 1]] for start in range(0, len(rest), GROUP - 1)]
    for number, group in enumerate(groups):
        if len(groups) > 1:
            log.info("group %d of %d", number + 1, len(groups))
        for place, values in enumerate(_measure_group(group, samples)):
            if place or not number:  # the first row is in each group, and in the result once
                yield group[place], values


def _measure_group(group: Sequence[Row], samples: int) -> Iterator[dict[str, Any]]:
    """The measurements of each row, in order; after Ctrl-C or another signal what has been timed by then."""
    burst = -(-samples // ROUNDS)
    seconds: list[list[float]] = [[] for _ in group]
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(WorkerPool(1, compute_environment(row.spec.threads))) for row in group]
        # One after the other: starting is timed too.
        start_up = [pool.call(_open, row) for pool, row in zip(pools, group, strict=True)]
        calls = [pool.call(_warm_up) for pool in pools]
        rests = REST_SECONDS * sum(row.spec.threads > 1 for row in group)
        log.info("%d rows: about %.0f s", len(group), ROUNDS * ((burst + 1) * sum(calls) + rests))

        def measured(index: int, memory: float | None) -> dict[str, Any]:
            return {
                "seconds": seconds[index],
                "first": seconds[0],
                "start_up_ms": start_up[index],
                "peak_memory_mib": memory,
            }

        finished = 0
        try:
            for number in range(ROUNDS):
                for index, pool in enumerate(pools):
                    seconds[index] += pool.call(_burst, burst)
                    if group[index].spec.threads > 1:
                        time.sleep(REST_SECONDS)
                    if number == ROUNDS - 1:
                        memory = pool.call(_peak_memory_mib)
                        finished += 1
                        yield measured(index, memory)
        except (KeyboardInterrupt, Stop):
            for index in range(finished, len(group)):
                if seconds[index]:
                    yield measured(index, None)
            raise


def _finished(row: Row, values: dict[str, Any], first_batch: int, gemm: dict[int, float]) -> dict[str, Any]:
    """One row as it stands in the result."""
    seconds = np.array(values["seconds"])
    median = float(np.median(seconds))
    macs = row.network.mult_adds
    result = {
        "network": row.network.name,
        "identity_divisor": row.network.identity_divisor,
        "image_size": row.network.image_size,
        "runtime": row.spec.runtime,
        "engine": row.spec.engine,
        "precision": row.spec.precision,
        "threads": row.spec.threads,
        "batch_size": row.batch_size,
        "samples": len(seconds),
        "median_ms": round(1000 * median, 3),
        "p10_ms": round(1000 * float(np.percentile(seconds, 10)), 3),
        "p90_ms": round(1000 * float(np.percentile(seconds, 90)), 3),
        "ms_per_image": round(1000 * median / row.batch_size, 3),
        "images_per_second": round(row.batch_size / median, 1),
        # Images a second over those of the first row, in the same rounds.
        "times_first_row": round(float(np.median(values["first"])) / first_batch / (median / row.batch_size), 3),
        "start_up_ms": round(values["start_up_ms"], 1),
        "peak_memory_mib": values["peak_memory_mib"],
        "mult_adds": macs,
    }
    if macs is not None:
        gmacs = macs * row.batch_size / median / 1e9
        result["gmacs_per_second"] = round(gmacs, 3)
        # For other precisions the float32 product is no limit.
        result["times_compute_floor"] = (
            round(gemm[row.spec.threads] / gmacs, 2) if row.spec.precision == "fp32" else None
        )
    return result
