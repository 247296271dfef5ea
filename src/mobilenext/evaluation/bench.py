"""Latency of networks and runtimes, side by side in one run.

Every row (network, runtime, threads, batch) has a process of its own, so that its memory and its start-up are its own.
All rows are opened and warmed up first; then the rounds go over them, a few calls of each while the others sleep, so
that a slow drift of the machine meets them all alike (see `mobilenext.evaluation.timing`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from mobilenext.errors import CheckFailed, MissingDependency, UsageError, refuse_unknown
from mobilenext.evaluation.bench_networks import BenchNetwork, Networks, images_for, networks_of, write_images
from mobilenext.evaluation.timing import ROUNDS, Answering, Timed, Timing, gemm_gmacs, time_in_turns
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.packages import installed
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.stopping import Stop
from mobilenext.origin import now, origin
from mobilenext.runtime import RUNTIMES, RuntimeSpec
from mobilenext.sources.choice import Choice
from mobilenext.sources.options import take_options
from mobilenext.sources.prepare import Prepared, count_mult_adds, prepare
from mobilenext.tasks import task_of_file
from mobilenext.weights.record import WeightsRecord

if TYPE_CHECKING:
    from typing import Unpack

FEWEST_SAMPLES = 30
IMAGES = "images.npy"  # in the folder of a network's files

Progress = Callable[[int, int], None]  # rows measured, rows in all
log = logging.getLogger(__name__)


class Ways(TypedDict, total=False):
    """How each network is run: all combinations of these."""

    runtimes: Sequence[str]  # ``auto``, names, ``name:engine``, or ``all`` for every installed one with every engine
    engine: str  # of Paddle Inference on a CPU
    precision: str | None  # as in ``evaluate``
    threads: Sequence[int]
    batch_sizes: Sequence[int]


class BenchOptions(Networks, Ways, total=False):
    """The options of `bench`."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    network: BenchNetwork
    spec: RuntimeSpec
    batch_size: int
    images: Path | None  # the input; None: noise
    answering: Answering | None  # the post-processing that is timed with the network; None: the network alone

    def timed(self) -> Timed:
        """Return what is opened and called."""
        return Timed(self.spec, self.batch_size, self.network.image_size, self.images, self.answering)


def bench(
    *,
    samples: int = 50,
    progress: Progress | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    **options: Unpack[BenchOptions],
) -> dict[str, Any]:
    """Measure every combination of networks and ways to run them.

    A network whose outputs become answers by post-processing, such as a detector, has a second row, with it. Its time
    depends on the weights and on the images, so the row says how many candidates there were, and freshly initialized
    weights, for which almost everything is a candidate, have none.

    Ctrl-C ends the measuring: the rows that have been timed by then are returned, and the result says ``partial``.

    Args:
        samples: timed calls of each row, at least 30.
        progress: called after each row.
        on_row: called with each row of the result as soon as it is measured.
        options: models, weights, exported, onnx, image_size, identity_divisors and images (see `Networks`); runtimes,
            engine, precision, threads and batch_sizes (see `Ways`).

    Returns:
        ``configuration``, ``environment``, ``gemm_gmacs``, ``partial``, ``rows``, and ``skipped``: what was not
        measured, and why: with ``all``, combinations that cannot run here; the answers of fresh weights.

    Raises:
        UsageError: too few samples, nothing to measure, or a combination that was asked for by name cannot run.
        DataError: images that cannot be read.
    """
    rest: dict[str, Any] = dict(options)
    chosen, ways = take_options(Networks, rest), take_options(Ways, rest)
    refuse_unknown(rest, (), "bench")
    _check(samples, chosen, ways)
    threads, batch_sizes = list(ways.get("threads", (1,))), list(ways.get("batch_sizes", (1,)))
    images = images_for(chosen["images"]) if chosen.get("images") else []
    started, before = now(), environment()
    with watched_scratch_folder() as work:
        gemm = {count: gemm_gmacs(count) for count in threads}
        networks = list(networks_of(work, chosen))
        rows, skipped = _rows(work, networks, images, ways)
        finished, partial = _measure(rows, samples, gemm, progress, on_row)
    return {
        "configuration": {
            "samples": samples,
            "rounds": ROUNDS,
            "threads": threads,
            "batch_sizes": batch_sizes,
            "input": _input(images),
            "weights": _weights(networks),
        },
        **origin(started),
        "environment": before,
        "load_average_after": environment()["load_average"],
        "gemm_gmacs": {str(count): round(value, 1) for count, value in gemm.items()},
        "partial": partial,
        "rows": finished,
        "skipped": skipped,
    }


def _input(images: Sequence[Path]) -> str:
    if not images:
        return "normal noise, resident in memory, the same for every call"
    return f"{len(images)} images in turns, resident in memory: {', '.join(path.name for path in images)}"


def _weights(networks: Sequence[BenchNetwork]) -> str:
    fresh = list(dict.fromkeys(network.name for network in networks if network.fresh))
    if not fresh or all(network.fresh for network in networks):
        return "freshly initialised" if fresh else "as given"
    return f"as given; freshly initialised: {', '.join(fresh)}"


def _check(samples: int, networks: Networks, ways: Ways) -> None:
    """Raise UsageError for numbers out of bounds, and where nothing is named."""
    if samples < FEWEST_SAMPLES:
        raise UsageError(f"samples is {samples}; expected at least {FEWEST_SAMPLES}, or a median says little")
    threads, batch_sizes = ways.get("threads", (1,)), ways.get("batch_sizes", (1,))
    divisors = networks.get("identity_divisors", (1,))
    for name, values in (("threads", threads), ("batch_size", batch_sizes), ("identity_divisor", divisors)):
        for value in values:
            if value < 1:
                raise UsageError(f"{name} is {value}; expected a whole number from 1 up")
    if max(threads, default=1) > available_cores():
        raise UsageError(f"threads is {max(threads)}, but this process may use {available_cores()} cores")
    models = networks.get("models", ())
    if networks.get("weights") is not None and len(models) > 1:
        raise UsageError(f"weights were given for {len(models)} models; expected one")
    if not (models or networks.get("weights") or networks.get("exported") or networks.get("onnx")):
        raise UsageError("nothing to measure; expected --model, --weights, --exported or --onnx")


# Preparing: the combinations, and the files of each.


def _rows(
    work: Path, networks: Sequence[BenchNetwork], images: Sequence[Path], ways: Ways
) -> tuple[list[Row], list[dict[str, str]]]:
    """Write the files of every combination, and return those that can run and those that cannot.

    Raises:
        UsageError: none can run, or one that was asked for by name.
    """
    runtimes, engine = ways.get("runtimes", ("auto",)), ways.get("engine", "auto")
    everything = list(runtimes) == ["all"]
    # "paddle-inference:onednn" names an engine of its own.
    parts = [name.partition(":") for name in runtimes]
    pairs = _every_pair() if everything else [(runtime, own or engine) for runtime, _, own in parts]
    rows: list[Row] = []
    skipped: list[dict[str, str]] = []
    for number, network in enumerate(networks):
        for runtime, chosen in pairs:
            folder = work / f"{number}-{runtime}-{chosen}"
            log.info("preparing %s for %s%s", network.name, runtime, f" ({chosen})" if chosen != "auto" else "")
            choice = Choice(runtime, chosen, precision=ways.get("precision"))
            try:
                with WorkerPool(1, compute_environment(1)) as single:
                    prepared, known = single.call(_prepare, network, folder, choice, images)
            except (UsageError, CheckFailed, MissingDependency) as error:
                if not everything:
                    raise
                skipped.append({"network": network.name, "runtime": f"{runtime} {chosen}", "reason": str(error)})
                continue
            shown = folder / IMAGES if images else None
            follows = (None, *_answering(known, prepared.record, skipped))
            rows += [
                Row(known, replace(prepared.spec, threads=threads), batch_size, shown, answering)
                for batch_size in ways.get("batch_sizes", (1,))
                for threads in ways.get("threads", (1,))
                for answering in follows
            ]
    if not rows:
        raise UsageError("nothing here can be measured: " + "; ".join(entry["reason"] for entry in skipped))
    return rows, skipped


def _answering(network: BenchNetwork, record: WeightsRecord, skipped: list[dict[str, str]]) -> list[Answering]:
    """Return what follows a network to its answers, if anything does; of fresh weights, say once that it is skipped."""
    post_processing = task_of_file(record.task, network.subject.path).export.post_processing
    if post_processing is None:
        return []
    if not network.fresh:
        return [Answering(post_processing, record)]
    entry = {
        "network": f"{network.name} + {post_processing.name}",
        "runtime": "all",
        "reason": "freshly initialised weights make a candidate of almost everything; time it with trained ones",
    }
    if entry not in skipped:
        skipped.append(entry)
    return []


def _every_pair() -> list[tuple[str, str]]:
    """Return all installed runtimes with all their engines."""
    return [
        (card.name, engine or "auto" if card.name == "paddle-inference" else "auto")
        for card in RUNTIMES.values()
        if installed(card.package)
        for engine in card.engines
    ]


def _prepare(
    network: BenchNetwork, folder: Path, choice: Choice, images: Sequence[Path]
) -> tuple[Prepared, BenchNetwork]:
    """Make a network ready to run; return it with what is known of it then, its mult-adds if they can be counted."""
    folder.mkdir()
    prepared = prepare(network.subject, folder, choice)
    if images:
        write_images(images, prepared.record.preprocessing, folder / IMAGES)
    record, mult_adds = prepared.record, network.mult_adds
    size, divisor = record.preprocessing.image_size, record.identity_divisor
    if mult_adds is None:
        mult_adds = count_mult_adds(record)
    return prepared, replace(network, identity_divisor=divisor, image_size=size, mult_adds=mult_adds)


# Measuring.


def _measure(
    rows: Sequence[Row],
    samples: int,
    gemm: dict[int, float],
    progress: Progress | None,
    on_row: Callable[[dict[str, Any]], None] | None,
) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of the result, and whether a signal has ended the measuring before the last."""
    finished: list[dict[str, Any]] = []
    try:
        for timing, row in zip(time_in_turns([row.timed() for row in rows], samples), rows, strict=True):
            finished.append(_finished(row, timing, rows[0].batch_size, gemm))
            if on_row:
                on_row(finished[-1])
            if progress:
                progress(len(finished), len(rows))
    except (KeyboardInterrupt, Stop):
        if not finished:
            raise
        return finished, True
    return finished, False


def _finished(row: Row, timing: Timing, first_batch: int, gemm: dict[int, float]) -> dict[str, Any]:
    """Return one row as it stands in the result."""
    seconds = np.array(timing.seconds)
    median = float(np.median(seconds))
    macs = None if row.answering else row.network.mult_adds  # nobody has counted those of the post-processing
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
        # Images per second relative to the first row, in the same rounds.
        "times_first_row": round(float(np.median(timing.first)) / first_batch / (median / row.batch_size), 3),
        "start_up_ms": round(timing.start_up_ms, 1),
        "peak_memory_mib": timing.peak_memory_mib,
        "mult_adds": macs,
    }
    if row.answering:
        result["post_processing"] = row.answering.post_processing.name
    if timing.answers:
        result["post_processing_ms"] = round(1000 * float(np.median(timing.answers.seconds)), 3)
        result["amounts_per_image"] = {name: round(number, 1) for name, number in timing.answers.amounts.items()}
    if macs is not None:
        gmacs = macs * row.batch_size / median / 1e9
        result["gmacs_per_second"] = round(gmacs, 3)
        # For other precisions the float32 product is no limit.
        result["times_compute_floor"] = (
            round(gemm[row.spec.threads] / gmacs, 2) if row.spec.precision == "fp32" else None
        )
    return result
