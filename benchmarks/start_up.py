"""Seconds from the shell to the end of a command, where those of an evaluation go, and beside another version.

    python benchmarks/start_up.py DATA [--before SRC] [--rounds 5] [-o results/bench_start_up.json]

evaluate  `mobilenext evaluate DATA` of mobilenext_x1_0 with random weights, at 224 pixels, from the start to the table
predict   `mobilenext predict PHOTO --exported FOLDER`, the first photo of DATA
help      `mobilenext --help`

SRC is the folder `src` of another checkout, such as a git worktree of an earlier commit: its commands take turns with
those of this one. Each turn is a process of its own; the first of each version is not counted, and medians are written.
The stages of an evaluation are timed one after the other in a process of their own, in each round: the functions that
`evaluate` calls, in its order. In `evaluate` itself, stages that need other processes overlap.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation import save_random_weights
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.origin import origin
from result_tables import start_up_table

SOURCE = Path(__file__).parents[1] / "src"
COMMANDS = ("evaluate", "predict", "help")


def export_weights(weights: Path, data: Path, folder: Path) -> Path:
    """Export the weights, compared on the first images; return one of these."""
    from mobilenext.data import open_dataset
    from mobilenext.exporting import export_model

    images = [record.path for record in open_dataset(data, limit=8).records]
    export_model(folder, weights=str(weights), format="onnx", images=images)
    return images[0]


def seconds_of(source: Path, words: list[str], log: Path) -> float:
    """Run the command line of a version; return the seconds by the clock."""
    variables = {**os.environ, "PYTHONPATH": str(source)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # the first turn, which is not counted, writes the bytecode
    started = time.perf_counter()
    with log.open("wb") as file:
        code = subprocess.run([sys.executable, "-m", "mobilenext", *words], stdout=file, stderr=file, env=variables)
    if code.returncode:
        raise SystemExit(f"mobilenext {' '.join(words)}: exit code {code.returncode}; {log.read_text()[-500:]}")
    return time.perf_counter() - started


def stages(data: Path, weights: Path) -> dict[str, float]:
    """Return the seconds of each stage of an evaluation, but for that of all images."""
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        value = call()
        seconds[name] = time.perf_counter() - started
        return value

    def import_command() -> None:
        import mobilenext.cli
        import mobilenext.evaluation.run  # noqa: F401

    def import_paddle() -> None:
        import paddle  # noqa: F401

    timed("importing the command", import_command)
    timed("importing Paddle", import_paddle)
    from mobilenext.evaluation.latency import LATENCY_IMAGES, measure_latency, time_reading
    from mobilenext.export.folding import fold_batch_norms
    from mobilenext.export.writing import write_format
    from mobilenext.runtime import RuntimeSpec
    from mobilenext.runtime.paddle_eager import forward
    from mobilenext.runtime.self_check import probe, problem_of
    from mobilenext.sources.find import find_subject, weights_of
    from mobilenext.weights.load import network_of

    read = timed("reading the weights", lambda: weights_of(find_subject(weights=str(weights))))
    network = timed("building the network", lambda: network_of(read))
    image = probe(read.preprocessing)
    expected = timed("Paddle's logits", lambda: forward(network, image))
    timed("folding batch norms", lambda: fold_batch_norms(network))
    size = read.preprocessing.image_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = timed("writing ONNX", lambda: write_format(network, "onnx", folder, size, kept=False))
        spec = RuntimeSpec("onnxruntime", "", "cpu", 1, folder, file, input="image", outputs=network.outputs)
        problem = timed("comparing with Paddle", lambda: problem_of(spec, image, expected))
        if problem:
            raise SystemExit(problem)
        timed("latency of the network", lambda: measure_latency(spec, size))
    from mobilenext.data import open_dataset

    records = timed("opening the data", lambda: open_dataset(data)).records
    paths = [record.path for record in records[:LATENCY_IMAGES]]
    timed("latency of reading", lambda: time_reading(read.preprocessing, paths))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--before", type=Path, metavar="SRC")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_start_up.json"))
    options = parser.parse_args()
    versions = {"now": SOURCE} | ({"before": options.before.resolve()} if options.before else {})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name) / "random.pdparams"
        with WorkerPool(1) as single:  # this process stays small
            single.call(save_random_weights, weights)
            photo = single.call(export_weights, weights, options.data, folder / "exported")
        for number in range(-1, options.rounds):
            row: dict[str, Any] = {}
            for version, source in versions.items():
                words = {
                    "evaluate": ["evaluate", str(options.data), "--weights", str(weights)],
                    "predict": ["predict", str(photo), "--exported", str(folder / "exported")],
                    "help": ["--help"],
                }
                words["evaluate"] += ["-o", str(folder / f"{version} {number}")]
                row[version] = {verb: seconds_of(source, words[verb], folder / "log") for verb in COMMANDS}
            with WorkerPool(1, compute_environment(1)) as single:
                row["stages"] = single.call(stages, options.data, weights)
            result = json.loads((folder / f"now {number}" / "result.json").read_text())
            row["stages"]["all images"] = result["images"] / result["images_per_second"]
            print(row, file=sys.stderr, flush=True)
            if number >= 0:
                rows.append(row)
    medians = {
        part: {key: statistics.median(row[part][key] for row in rows) for key in rows[0][part]} for part in rows[0]
    }
    command = origin()
    if options.before:
        command["command"] = command["command"].replace(str(options.before), "SRC")
    written = {
        "model": "mobilenext_x1_0",
        "data": {"folder": options.data.name, "images": result["images"]},
        "cores": available_cores(),
        "medians": medians,
        "rounds": rows,
        **command,
        "environment": environment(),
    }
    options.output.write_text(json.dumps(written, indent=1) + "\n")
    print(start_up_table(written))


if __name__ == "__main__":
    main()
