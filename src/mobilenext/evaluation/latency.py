"""How long one image takes: warm, alone, the median of many runs; reading and preprocessing apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.data import Preprocessing, read_image
from mobilenext.runtime import RuntimeSpec, open_runtime

RUNS = 100
WARM_UP_RUNS = 10


def measure_latency(
    spec: RuntimeSpec, preprocessing: Preprocessing, images: Sequence[Path], runs: int = RUNS
) -> dict[str, Any]:
    """Milliseconds for one image at batch 1 in this process.

    Args:
        spec: a prepared network.
        preprocessing: of its weights.
        images: readable files whose reading and preprocessing is timed, one after the other.
        runs: of the network, after warming up; at least 30.

    Returns:
        ``median``, ``p10``, ``p90`` of the network, and ``preprocessing_median``; with runs, threads and runtime.
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
        "batch_size": 1,
        "threads": spec.threads,
        "runtime": spec.describe(),
        "preprocessing_median": _ms(np.median(np.concatenate(pixels))) if pixels else None,
        "preprocessing_images": len(pixels),
    }


def _timed(call: Callable[[], object], warm_up: int, runs: int) -> np.ndarray[Any, Any]:
    """Seconds of each of `runs` calls."""
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
