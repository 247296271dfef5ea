"""Speed of the evaluation with mobilenext_x1_0 at 224 pixels, interleaved in one run with two yardsticks.

    python benchmarks/evaluation.py DATA [--rounds 3] [--times 5] [-o results/bench_evaluation.json]

evaluate        `mobilenext evaluate` with each runtime: images/s, latency, peak memory of all its processes, and the
                share of what the cores could do at best: one image in the time of inference and of preprocessing
inference       the network alone on all cores at once, a process for each, by the same runtimes
preprocessing   reading and preprocessing all images, in as many processes as evaluate uses: images/s, and the mean time
plain loop      what other ports do: Paddle eager, batch 32, two paddle.io.DataLoader workers, the same preprocessing
                by Pillow alone
eager latency   one image, Paddle eager

DATA is evaluated `--times` over, by links to its images: of a run of two seconds, the first and the last images, when
some cores have no work, are a tenth. Inference and preprocessing are measured before and after each evaluation, and the
means count: a machine that is shared changes its speed within a minute. Weights are random: they do not change the
speed. Starting up is left out of all rates. Every part runs in a process of its own, in turn, for as many rounds as
asked; medians and the ratio of every round are written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenext.data import Preprocessing, open_dataset, read_image
from mobilenext.data.resampling import LOADING_PAYS, begin
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.origin import origin
from mobilenext.runtime import RuntimeSpec, open_runtime
from mobilenext.sources.choice import choose
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from process_memory import MemoryOfTree
from result_tables import evaluation_table

BATCH, LOADER_WORKERS = 32, 2
RUNTIMES = ("openvino", "onnxruntime", "paddle-inference")


def save_random_weights(path: Path) -> None:
    import paddle

    from mobilenext.models import build_network

    paddle.seed(0)
    paddle.save(build_network("mobilenext_x1_0").state_dict(), str(path))


def plain_loop(data: Path, weights: Path) -> dict[str, float]:
    """Images/s of the usual loop, without its first batch; and the latency of one image."""
    import paddle

    from mobilenext import create_model

    preprocessing = Preprocessing()
    records = open_dataset(data).records

    class Images(paddle.io.Dataset):
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            image = read_image(records[index].path)
            size, (left, top) = preprocessing.placement(*image.size)
            crop = (left, top, left + preprocessing.image_size, top + preprocessing.image_size)
            pixels = np.array(image.resize(size, Image.Resampling.BICUBIC).crop(crop))
            return preprocessing.normalize(pixels), records[index].label

    network = create_model("mobilenext_x1_0", weights=weights)
    started, done = 0.0, -BATCH
    with paddle.no_grad():
        for images, _labels in paddle.io.DataLoader(Images(), batch_size=BATCH, num_workers=LOADER_WORKERS):
            network(images).numpy()
            started = started or time.perf_counter()
            done += len(images)
        rate = done / (time.perf_counter() - started)
        image = paddle.rand([1, 3, 224, 224])
        seconds = []
        for _ in range(40):
            begun = time.perf_counter()
            network(image).numpy()
            seconds.append(time.perf_counter() - begun)
    return {"images_per_second": rate, "latency_ms": 1000 * statistics.median(seconds[10:])}


def _preprocess(paths: list[Path]) -> float:
    """Preprocess some images and return the seconds that took."""
    preprocessing = Preprocessing()
    begin(LOADING_PAYS, preprocessing.interpolation, preprocessing.image_size)
    started = time.perf_counter()
    for path in paths:
        preprocessing(read_image(path))
    return time.perf_counter() - started


def preprocessing_alone(data: Path) -> dict[str, float]:
    paths = [record.path for record in open_dataset(data).records]
    chunks = [paths[start : start + 8] for start in range(0, len(paths), 8)]
    with WorkerPool(available_cores(), compute_environment(1), threads=1) as pool:
        list(pool.map(_preprocess, chunks[: 2 * available_cores()]))  # starts the processes
        started = time.perf_counter()
        seconds = sum(pool.map(_preprocess, chunks))
        rate = len(paths) / (time.perf_counter() - started)
    return {"images_per_second": rate, "milliseconds": 1000 * seconds / len(paths)}


def _infer(spec: RuntimeSpec, runs: int) -> float:
    """Return the mean milliseconds of some calls with one image."""
    runtime = open_runtime(spec)
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    for _ in range(10):
        runtime.predict(image)
    started = time.perf_counter()
    for _ in range(runs):
        runtime.predict(image)
    return 1000 * (time.perf_counter() - started) / runs


def prepare_runtimes(weights: Path, folder: Path) -> dict[str, RuntimeSpec]:
    """Return the network as each runtime opens it."""
    specs = {}
    for name in RUNTIMES:
        choice = choose({"runtime": name})
        with WorkerPool(1, choice.environment()) as single:  # this process stays small
            specs[name] = single.call(prepare, find_subject(weights=weights), folder / name, choice).spec
    return specs


def inference_alone(spec: RuntimeSpec) -> float:
    """Return the mean milliseconds of one image, on all cores at once."""
    with WorkerPool(available_cores(), compute_environment(1), threads=1) as pool:
        list(pool.map(partial(_infer, spec), [1] * pool.workers))  # starts the processes
        return statistics.mean(pool.map(partial(_infer, spec), [100] * pool.workers))


def evaluate(data: Path, weights: Path, runtime: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "mobilenext", "evaluate", str(data), "--weights", str(weights), "--json"]
    command += ["--runtime", runtime]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        memory = MemoryOfTree(process.pid)
        memory.start()
        result = json.loads(process.communicate()[0])
    return {
        "images_per_second": result["images_per_second"],
        "latency_ms": result["latency_ms"],
        "runtime": result["latency"]["runtime"],
        "peak_memory_mib": memory.peak_mib,
    }


def plain_of_its_own(data: Path, weights: Path) -> dict[str, float]:
    """Run the plain loop in a process of its own."""
    command = [sys.executable, __file__, str(data), "--plain", str(weights)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, float] = json.loads(output.decode().splitlines()[-1])
    return result


def evaluate_beside_its_parts(data: Path, weights: Path, spec: RuntimeSpec) -> dict[str, Any]:
    """Return what `evaluate` measures, and its share of the best possible, which is measured before and after it."""
    inference, preprocessing = [inference_alone(spec)], [preprocessing_alone(data)]
    row = evaluate(data, weights, spec.runtime)
    preprocessing.append(preprocessing_alone(data))
    inference.append(inference_alone(spec))
    row["inference_ms"] = statistics.mean(inference)
    for key in ("milliseconds", "images_per_second"):
        row[f"preprocessing_{key}"] = statistics.mean(one[key] for one in preprocessing)
    alone_ms = row["inference_ms"] + row["preprocessing_milliseconds"]
    return row | {"share_of_best": row["images_per_second"] * alone_ms / (1000 * available_cores())}


def run_rounds(data: Path, repeated_data: Path, number_of_rounds: int) -> list[dict[str, Any]]:
    """Run every part once in each round, each in a process of its own."""
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name) / "random.pdparams"
        with WorkerPool(1) as single:
            single.call(save_random_weights, weights)
        specs = prepare_runtimes(weights, folder)
        # Compiled once on a machine: the first long evaluation would do it in the background.
        subprocess.run([sys.executable, "-m", "mobilenext.data.resampling_compiler"], check=True)
        for number in range(number_of_rounds):
            one: dict[str, Any] = {
                name: evaluate_beside_its_parts(repeated_data, weights, spec) for name, spec in specs.items()
            }
            one["plain"] = plain_of_its_own(data, weights)
            rounds.append(one)
            print(f"round {number + 1}: {one}", file=sys.stderr)
    return rounds


def median(rounds: Sequence[dict[str, Any]], part: str, key: str, digits: int = 2) -> float:
    values: list[float] = [one[part][key] for one in rounds]
    return round(statistics.median(values), digits)


def row_of(rounds: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The row of one runtime: medians over the rounds; the ratio to the plain loop is taken within each round."""
    ratios = [one[name]["images_per_second"] / one["plain"]["images_per_second"] for one in rounds]
    return {
        "runtime": rounds[0][name]["runtime"],
        "images_per_second": median(rounds, name, "images_per_second"),
        "over_plain_loop": round(statistics.median(ratios), 2),
        "share_of_best": median(rounds, name, "share_of_best", 3),
        "latency_ms": median(rounds, name, "latency_ms", 3),
        "inference_ms": median(rounds, name, "inference_ms", 3),
        "preprocessing_ms": median(rounds, name, "preprocessing_milliseconds", 3),
        "peak_memory_mib": max(one[name]["peak_memory_mib"] for one in rounds),
    }


def repeated(data: Path, times: int, folder: Path) -> Path:
    """A data set that has each image of another so many times, as links."""
    (folder / "imgs").mkdir()
    with (folder / "val_list.txt").open("w") as file:
        for turn in range(times):
            for record in open_dataset(data).records:
                name = f"{turn}_{record.index}{record.path.suffix}"
                (folder / "imgs" / name).symlink_to(record.path.resolve())
                file.write(f"{name} {record.label}\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--times", type=int, default=1, help="how many times over the images are evaluated (default: 1)"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_evaluation.json"))
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        print(json.dumps(plain_loop(options.data, options.plain)))
        return

    with tempfile.TemporaryDirectory() as name:
        rounds = run_rounds(options.data, repeated(options.data, options.times, Path(name)), options.rounds)
    summary = {
        "model": "mobilenext_x1_0",
        "image_size": 224,
        "data": {"folder": options.data.name, "images": len(open_dataset(options.data)), "times": options.times},
        "rows": [row_of(rounds, name) for name in RUNTIMES],
        "plain_loop_images_per_second": median(rounds, "plain", "images_per_second"),
        "preprocessing_images_per_second": median(rounds, RUNTIMES[0], "preprocessing_images_per_second"),
        "eager_latency_ms": median(rounds, "plain", "latency_ms"),
        "rounds": rounds,
        **origin(),
        "environment": environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(summary, indent=1) + "\n")
    print(evaluation_table(summary))


if __name__ == "__main__":
    main()
