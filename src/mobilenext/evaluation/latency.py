"""Measure the latency of one image after warming up; reading and preprocessing are timed apart from the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mobilenext.data import Preprocessing, read_image
from mobilenext.data.check import size_problems
from mobilenext.data.resampling import begin
from mobilenext.errors import ImageError
from mobilenext.evaluation.outcome import Trial
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks
from mobilenext.runtime import RuntimeSpec, open_runtime

RUNS = 50
WARM_UP_RUNS = 10
LATENCY_IMAGES = 20  # whose reading and preprocessing is timed


class Reading(NamedTuple):
    """What reading and preprocessing images took, and their sizes."""

    seconds: list[float]
    sizes: list[tuple[int, int]]  # width and height, of each image


def time_reading(preprocessing: Preprocessing, images: Sequence[Path]) -> Reading:
    """Time reading and preprocessing of the first LATENCY_IMAGES readable files, in this process, the second time."""
    reading = Reading([], [])
    for path in images:
        if len(reading.sizes) == LATENCY_IMAGES:
            break
        try:
            image = read_image(path)
            preprocessing(image)
        except ImageError:
            continue  # the evaluation reports it
        reading.sizes.append(image.size)
        started = time.perf_counter()
        preprocessing(read_image(path))
        reading.seconds.append(time.perf_counter() - started)
    return reading


def measure_latency(spec: RuntimeSpec, image_size: int, runs: int = RUNS) -> dict[str, Any]:
    """Measure the milliseconds for one image at batch 1 in this process.

    Args:
        spec: a prepared network.
        image_size: pixels, of its square images.
        runs: of the network, after warming up; at least 30.

    Returns:
        ``median``, ``p10``, ``p90``, every call in ``samples_ms``, runs, threads and runtime.
    """
    image = np.random.default_rng(0).standard_normal((1, 3, image_size, image_size), dtype=np.float32)
    runtime = open_runtime(spec)
    # The output is copied to the host, which waits for a GPU too.
    network = _timed(lambda: runtime.predict(image), WARM_UP_RUNS, max(30, runs))
    return {
        "median": _ms(np.median(network)),
        "p10": _ms(np.percentile(network, 10)),
        "p90": _ms(np.percentile(network, 90)),
        "runs": len(network),
        "samples_ms": [_ms(seconds) for seconds in network],
        "batch_size": 1,
        "threads": spec.threads,
        "runtime": spec.describe(),
    }


def _timed(call: Callable[[], object], warm_up: int, runs: int) -> np.ndarray[Any, Any]:
    """Return the seconds of each of `runs` calls."""
    for _ in range(warm_up):
        call()
    seconds = np.empty(runs)
    for run in range(runs):
        started = time.perf_counter()
        call()
        seconds[run] = time.perf_counter() - started
    return seconds


def _ms(seconds: np.floating[Any]) -> float:
    return round(1000 * float(seconds), 3)


def interleaved_latency(
    specs: Mapping[str, RuntimeSpec], image_size: int, runs: int = RUNS
) -> dict[str, dict[str, Any]]:
    """Measure several networks in turns at batch 1, so that a slow drift of the machine meets them all alike.

    Args:
        specs: prepared networks, by name.
        image_size: pixels, of the square images that all of them take.
        runs: of each, after warming up.

    Returns:
        ``median``, ``p10``, ``p90`` (milliseconds), ``runs`` and ``threads`` of each.
    """
    opened = {name: open_runtime(spec) for name, spec in specs.items()}
    image = np.random.default_rng(0).standard_normal((1, 3, image_size, image_size), dtype=np.float32)
    for runtime in opened.values():
        _timed(lambda runtime=runtime: runtime.predict(image), 0, WARM_UP_RUNS)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    for _ in range(runs):
        for name, runtime in opened.items():
            seconds[name] += list(_timed(lambda runtime=runtime: runtime.predict(image), 1, 1))  # type: ignore[misc]
    return {
        name: {
            "median": _ms(np.median(values)),
            "p10": _ms(np.percentile(values, 10)),
            "p90": _ms(np.percentile(values, 90)),
            "runs": len(values),
            "threads": specs[name].threads,
        }
        for name, values in seconds.items()
    }


def latency_of_trial(single: WorkerPool, trial: Trial, ranks: Ranks) -> tuple[dict[str, Any], list[str]]:
    """Return the latency for the result, and remarks on image sizes; the first process measures for all."""
    measured = ranks.from_first(_measure(single, trial) if ranks.first else None)
    latency, sizes = measured
    remarks = size_problems(sizes, trial.prepared.record.preprocessing)
    return {"latency_ms": latency["median"], "latency": latency}, remarks


def _measure(single: WorkerPool, trial: Trial) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Measure in a process where nothing else runs: the network, then reading; return also the sizes of the images."""
    preprocessing = trial.prepared.record.preprocessing
    single.call(begin, trial.images_of_worker, preprocessing.interpolation, preprocessing.image_size)  # as in workers
    latency = single.call(measure_latency, trial.prepared.spec, preprocessing.image_size)
    paths = [record.path for record in trial.dataset.records[: 2 * LATENCY_IMAGES]]
    reading = single.call(time_reading, preprocessing, paths)
    latency["preprocessing_median"] = _ms(np.median(reading.seconds)) if reading.seconds else None
    latency["preprocessing_images"] = len(reading.sizes)
    return latency, reading.sizes
