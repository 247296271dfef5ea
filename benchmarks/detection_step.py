"""Speed of a training step of SSDLite320 on a CPU core, beside plain PyTorch in its fastest form.

    python benchmarks/detection_step.py --peer-python PYTHON [--rounds 3] [-o results/bench_detection_step.json]

PYTHON is the interpreter of an environment that has PyTorch; nothing else of the project needs it. Both sides train
ssdlite320_mobilenext_x0_35 at 320 pixels with 8 pictures, 20 classes and the loss of the form voc, on the same core in
turn: ours as `mobilenext train` makes a step, PyTorch eagerly in channels_last with SGD (`benchmarks/peer_ssdlite.py`).
Pictures and targets are random and lie in memory. The ratio of each round is PyTorch's seconds over ours: above 1, ours
is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.machine.environment import environment
from mobilenext.machine.process_environment import prepare_process
from mobilenext.origin import origin

MODEL, WIDTH, BATCH, CLASSES = "ssdlite320_mobilenext_x0_35", 0.35, 8, 20
WARM_UP, STEPS = 3, 10
PEER = Path(__file__).with_name("peer_ssdlite.py")


def seconds_of_ours() -> float:
    """Return the median seconds of a step as `mobilenext train` makes it."""
    import paddle

    from mobilenext.detection.recipes import RECIPES
    from mobilenext.detection.training import DetectionJob
    from mobilenext.job import Batch, Feed, Parts, Setup
    from mobilenext.machine.ranks import Ranks
    from mobilenext.models import build_network
    from mobilenext.training.acceleration import accelerate
    from mobilenext.training.stepper import GradientStep

    warnings.filterwarnings("ignore")
    paddle.seed(0)
    network = build_network(MODEL, num_classes=CLASSES, form="voc")
    accelerate(network)
    network.train()
    form = network.form
    config = {
        "architecture": {"form": form.to_dict()},
        "num_classes": CLASSES,
        "labels": None,
        "preprocessing": RECIPES["ssdlite-voc"].preprocessing.to_dict(),
    }
    recipe = RECIPES["ssdlite-voc"].replace(batch_size=BATCH, lr=0.001, lr_batch_size=BATCH)
    empty: Any = _NoPictures()
    job = DetectionJob(config, recipe, Parts(empty, empty, {}))
    stepper = GradientStep(Setup(recipe, job, Ranks(), Feed(0, BATCH)), network)
    random = np.random.default_rng(0)
    labels = random.integers(1, CLASSES + 1, (BATCH, form.priors)) * (random.random((BATCH, form.priors)) < 0.01)
    images = random.standard_normal((BATCH, 3, form.image_size, form.image_size), np.float32)
    regressions = random.standard_normal((BATCH, form.priors, 4), np.float32)
    batch = Batch(images, {"labels": labels, "regressions": regressions})
    seconds = []
    for step in range(WARM_UP + STEPS):
        started = time.perf_counter()
        sums = stepper(batch, step, 0.001)
        float(sums[0][0])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


class _NoPictures:
    records = ()


def run_ours() -> dict[str, Any]:
    """Measure our step in a process of its own, on the first core."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return _last_line([sys.executable, __file__, "--part"], variables)


def run_peer(python: str) -> dict[str, Any]:
    """Measure PyTorch's step by its own interpreter, on the first core."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    variables.pop("PYTHONPATH", None)
    return _last_line([python, str(PEER), str(WIDTH), str(BATCH), str(CLASSES), "0"], variables)


def _last_line(command: list[str], variables: dict[str, str]) -> dict[str, Any]:
    process = subprocess.run(command, stdout=subprocess.PIPE, env=variables, check=True)
    record: dict[str, Any] = json.loads(process.stdout.decode().splitlines()[-1])
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3, help="times that both are measured (default: 3)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_detection_step.json"))
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        prepare_process(1)
        print(json.dumps({"seconds": seconds_of_ours()}))
        return
    if not options.peer_python:
        parser.error("--peer-python is missing: the interpreter of an environment with PyTorch")
    rounds = []
    for number in range(options.rounds):
        ours, peer = run_ours(), run_peer(options.peer_python)
        ratio = round(peer["seconds"] / ours["seconds"], 3)
        rounds.append({"ours": round(ours["seconds"], 4), "pytorch": round(peer["seconds"], 4), "ratio": ratio})
        print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    result = {
        "model": MODEL, "image_size": 320, "batch": BATCH, "classes": CLASSES, "threads": 1,
        "seconds": statistics.median(one["ours"] for one in rounds),
        "pytorch_seconds": statistics.median(one["pytorch"] for one in rounds),
        "pytorch": peer["torch"],
        "ratio": statistics.median(one["ratio"] for one in rounds),
        "rounds": rounds, "warm_up_steps": WARM_UP, "timed_steps": STEPS, **origin(), "environment": environment(),
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"PyTorch's seconds over ours: {result['ratio']}")


if __name__ == "__main__":
    main()
