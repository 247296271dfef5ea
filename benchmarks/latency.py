"""Our runtimes beside the plain ones on the same exported network, x1.0 at 224 pixels, batch 1, interleaved in one run.

    python benchmarks/latency.py [--threads 1,2] [--samples 100] [-o results/bench_plain.json]

"plain" is what the documentation of ONNX Runtime and OpenVINO shows: open the file, set the threads, run. The compute
floor is the network's mult-adds at the speed of a large float32 matrix product.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.evaluation.bench_networks import write_fresh_weights
from mobilenext.evaluation.timing import REST_SECONDS, Opened, burst, gemm_gmacs, noise, warm_up
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.models import MODELS
from mobilenext.origin import origin
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import Subject
from mobilenext.sources.prepare import Prepared, prepare
from result_tables import plain_table

MODEL = "mobilenext_x1_0"
ROUNDS = 10
OURS = ("openvino", "onnxruntime", "paddle-inference:openvino", "paddle-inference:onednn", "paddle:auto")


def plain_onnxruntime(file: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"image": batch})[0]


def plain_openvino(file: str, threads: int) -> Any:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    return lambda batch: compiled(batch)[0]


PLAIN = {"plain ONNX Runtime": plain_onnxruntime, "plain OpenVINO": plain_openvino}


@dataclass(frozen=True)
class Timed:
    """A way to run the network, with the seconds of its calls."""

    way: str
    threads: int
    seconds: list[float]


class Calling:
    """A function as a runtime."""

    def __init__(self, function: Any) -> None:
        self.predict = function


def open_here(way: Any, file: str, threads: int) -> None:
    """Open, in the worker, what the bursts of mobilenext.evaluation.timing will call."""
    runtime: Runtime = open_runtime(way) if isinstance(way, RuntimeSpec) else Calling(way(file, threads))
    Opened.here = Opened(runtime, [noise(1, 224)], None)


def prepared_by(pool: WorkerPool, subject: Subject, folder: Path, way: str) -> Prepared:
    runtime, _, engine = way.partition(":")
    return pool.call(prepare, subject, folder, Choice(runtime, engine or "auto"))


def ways_to_run(work: Path) -> tuple[dict[str, Any], str]:
    """Write the network for each of our runtimes; all ways by their names, and the ONNX file for the plain ones."""
    weights = work / "fresh.safetensors"
    with WorkerPool(1, compute_environment(1)) as single:
        single.call(write_fresh_weights, MODEL, weights)
    ways: dict[str, Any] = dict(PLAIN)
    onnx_file = ""
    for way in OURS:
        with WorkerPool(1, compute_environment(1)) as single:
            folder = work / way.replace(":", "-")
            folder.mkdir()
            spec = prepared_by(single, Subject(weights, "weights", MODEL, identity_divisor=1), folder, way).spec
            ways[f"mobilenext, {spec.describe()}"] = spec
            onnx_file = str(spec.folder / spec.file) if spec.runtime == "onnxruntime" else onnx_file
    return ways, onnx_file


def time_in_turns(threads: Sequence[int], samples: int) -> list[Timed]:
    """Open every way with every number of threads, then go over all of them in rounds."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        ways, onnx_file = ways_to_run(Path(scratch))
        pools, timed = [], []
        for count in threads:
            for name, way in ways.items():
                pool = stack.enter_context(WorkerPool(1, compute_environment(count)))
                own = RuntimeSpec(**{**vars(way), "threads": count}) if isinstance(way, RuntimeSpec) else way
                pool.call(open_here, own, onnx_file, count)
                pool.call(warm_up)
                pools.append(pool)
                timed.append(Timed(name, count, []))
        for _ in range(ROUNDS):
            for pool, row in zip(pools, timed, strict=True):
                row.seconds.extend(pool.call(burst, -(-samples // ROUNDS)))
                if row.threads > 1:
                    time.sleep(REST_SECONDS)
    return timed


def row_of(timed: Timed, everything: Sequence[Timed], gemm: float) -> dict[str, Any]:
    """One row of the result: the latency, and its ratios to the best plain way and to the compute floor."""
    plain = [other for other in everything if other.threads == timed.threads and other.way in PLAIN]
    best_plain = min(np.median(other.seconds) for other in plain)
    median = float(np.median(timed.seconds))
    return {
        "way": timed.way,
        "threads": timed.threads,
        "samples": len(timed.seconds),
        "median_ms": round(1000 * median, 3),
        "p10_ms": round(1000 * float(np.percentile(timed.seconds, 10)), 3),
        "p90_ms": round(1000 * float(np.percentile(timed.seconds, 90)), 3),
        "of_best_plain": round(median / float(best_plain), 3),
        "times_compute_floor": round(median / (MODELS[MODEL].mult_adds / gemm / 1e9), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_plain.json"))
    options = parser.parse_args()
    threads = [int(part) for part in options.threads.split(",")]
    gemm = {count: gemm_gmacs(count) for count in threads}
    timed = time_in_turns(threads, options.samples)
    result = {
        "model": MODEL,
        "gemm_gmacs": {str(count): round(value, 1) for count, value in gemm.items()},
        "rows": [row_of(row, timed, gemm[row.threads]) for row in timed],
        **origin(),
        "environment": environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(plain_table(result))


if __name__ == "__main__":
    main()
