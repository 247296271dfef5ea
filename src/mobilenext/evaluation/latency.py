"""Measure the latency of one image after warming up; reading and preprocessing are timed apart from the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenext.data import Dataset, Preprocessing, pixels_of, read_image
from mobilenext.data.check import size_problems
from mobilenext.data.resampling import begin
from mobilenext.errors import ImageError
from mobilenext.evaluation.outcome import Trial
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks
from mobilenext.runtime import RuntimeSpec, open_runtime

RUNS = 100
WARM_UP_RUNS = 10
LATENCY_IMAGES = 20  # whose reading and preprocessing is timed


def measure_latency(
    spec: RuntimeSpec, preprocessing: Preprocessing, images: Sequence[Path], runs: int = RUNS
) -> dict[str, Any]:
    """Measure the milliseconds for one image at batch 1 in this process.

    Args:
        spec: a prepared network.
        preprocessing: of its weights.
        images: readable files whose reading and preprocessing is timed, one after the other.
        runs: of the network, after warming up; at least 30.

    Returns:
        ``median``, ``p10``, ``p90`` of the network, every call in ``samples_ms``, and ``preprocessing_median``; with
        runs, threads and runtime.
    """
    size = preprocessing.image_size
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    runtime = open_runtime(spec)
    # The output is copied to the host, which waits for a GPU too.
    network = _timed(lambda: runtime.predict(image), WARM_UP_RUNS, max(30, runs))
    pixels = [_timed(lambda path=path: preprocessing(read_image(path)), 1, 3) for path in images]  # type: ignore[misc]
    return {
        "median": _ms(np.median(network)),
        "p10": _ms(np.percentile(network, 10)),
        "p90": _ms(np.percentile(network, 90)),
        "runs": len(network),
        "samples_ms": [_ms(seconds) for seconds in network],
        "batch_size": 1,
        "threads": spec.threads,
        "runtime": spec.describe(),
        "preprocessing_median": _ms(np.median(np.concatenate(pixels))) if pixels else None,
        "preprocessing_images": len(pixels),
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
    prepared = trial.prepared
    preprocessing = prepared.record.preprocessing
    paths = _readable_images(trial.dataset, preprocessing) if ranks.first else []
    if ranks.first:
        # As in the workers.
        single.call(begin, trial.images_of_worker, preprocessing.interpolation, preprocessing.image_size)
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
