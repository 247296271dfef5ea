"""Speed of a search on a CPU core: of cells beside PyTorch, and over blocks beside a training step.

    python benchmarks/search_step.py --peer-python PYTHON [--rounds 8] [--steps 24] [-o results/bench_search_step.json]

PYTHON is the interpreter of an environment that has PyTorch; nothing else of the project needs it.

Cells: a step of the alphas and one of the weights on 64 images of 16 pixels, in the super-network of the operators of
DARTS with 8 channels and 5 cells. In each round, in turns: a first-order step of ours as `mobilenext search` makes it,
one in PyTorch with the same weights, images and optimizers (`benchmarks/peer_darts.py`), eagerly, in both memory
formats, and a second-order step of ours. Before that, two first-order steps of each have to give the same losses.

Blocks: of a MobileNeXt, in turns, step by step:

    training step   as `mobilenext train` makes it
    single path     forwards and backwards through one path of the super-network that was drawn: no optimizer
    search step     as `mobilenext search --space blocks` makes it: a step of the alphas, and one of the weights

Paths differ in cost, so the means over the steps are compared; how many mult-adds a path has beside the model, on
average over all paths, is stored. Each side is a process with one thread; the seconds are
those of it on its core, so that other programs on the machine hardly count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mobilenext.machine.environment import environment
from mobilenext.origin import origin

CHANNELS, CELLS, SIZE, BATCH = 8, 5, 16, 64
NETWORKS = (("mobilenext_x0_35", 64, 32), ("mobilenext_x1_0", 96, 16))  # model, pixels, images
CLASSES = 20  # of the blocks' networks
WARM_UP = 3
SAME_LOSS = 1e-3  # relative, of two steps: float32 in another order
FORMATS = ("contiguous", "channels_last")
HERE = Path(__file__).parent


class Side:
    """A process that makes a step on request."""

    def __init__(self, *command: str) -> None:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        if command[0] != sys.executable:
            variables.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
        self.facts = self._answer()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def step(self, name: str) -> dict[str, Any]:
        """Make the step of this name, and return what it took."""
        assert self._process.stdin
        self._process.stdin.write(f"{name}\n".encode())
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the process ended with {self._process.wait()}: {self._process.args!r:.120}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def ours(*arguments: object) -> Side:
    """Start our side of the benchmark."""
    return Side(sys.executable, str(HERE / "search_calls.py"), *map(str, arguments))


def measure_cells(peer_python: str, rounds: int) -> dict[str, Any]:
    """Compare the steps of a search of cells with those of PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        beginning = Path(folder) / "beginning.npz"
        with (
            ours("cells", CHANNELS, CELLS, SIZE, BATCH, beginning) as search,
            Side(peer_python, str(HERE / "peer_darts.py"), str(beginning), str(CHANNELS), str(CELLS)) as peer,
        ):
            if search.facts["parameters"] != peer.facts["parameters"]:
                sys.exit(f"the networks have {search.facts['parameters']} and {peer.facts['parameters']} parameters")
            losses = {"ours": [search.step("order 1") for _ in range(2)]}
            losses |= {form: [peer.step(form) for _ in range(2)] for form in FORMATS}
            shown = {side: [step["loss"] for step in steps] for side, steps in losses.items()}
            for form in FORMATS:
                for own, other in zip(shown["ours"], shown[form], strict=True):
                    if abs(own / other - 1) > SAME_LOSS:
                        sys.exit(f"the losses of the first steps differ: {shown}")
            peak = losses["ours"][-1]["peak_memory_mib"]
            calls = [(search, "order 1"), *((peer, form) for form in FORMATS), (search, "order 2")]
            table = []
            search.step("order 2")
            for number in range(rounds):
                steps = {name: side.step(name) for side, name in calls}
                table.append({name: round(step["processor_seconds"], 4) for name, step in steps.items()})
                print(f"round {number + 1}: {table[-1]}", file=sys.stderr, flush=True)
            profile = search.step("profile order 1")["operators"]
            facts, version = search.facts, peer.facts["torch"]
            second_peak = steps["order 2"]["peak_memory_mib"]
    medians = {name: round(statistics.median(row[name] for row in table), 4) for name in table[0]}
    best = min(FORMATS, key=lambda form: medians[form])
    ratios = {
        "pytorch_over_ours": [row[best] / row["order 1"] for row in table],
        "order_2_over_order_1": [row["order 2"] / row["order 1"] for row in table],
    }
    return {
        "channels": CHANNELS, "cells": CELLS, "image_size": SIZE, "batch": BATCH, "operators": "darts",
        **facts, "shares_of_operators": profile, "peak_memory_mib": {"order 1": peak, "order 2": second_peak},
        "first_losses": {side: [round(loss, 6) for loss in values] for side, values in shown.items()},
        "pytorch": version, "pytorch_format": best, "median_seconds": medians,
        "ratios": {name: round(statistics.median(values), 3) for name, values in ratios.items()}, "rounds": table,
    }  # fmt: skip


def measure_blocks(model: str, size: int, batch: int, steps: int) -> dict[str, Any]:
    """Compare the steps of a search over the blocks of a model with those of its training."""
    names = ("training step", "single path", "clear", "search step")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ours("blocks", model, size, batch) as side:
        facts = side.facts
        for _ in range(WARM_UP + steps):
            for name in names:
                seconds[name].append(side.step(name)["processor_seconds"])
    timed = {name: values[WARM_UP:] for name, values in seconds.items() if name != "clear"}
    means = {name: statistics.mean(values) for name, values in timed.items()}
    ratios = {name: round(mean / means["training step"], 3) for name, mean in means.items() if name != "training step"}
    # Of a mean over paths that were drawn at random; those of the training step do not differ.
    errors = {name: round(statistics.stdev(timed[name]) / steps**0.5 / means["training step"], 3) for name in ratios}
    for name, ratio in ratios.items():
        print(f"{model} at {size} px, {name}: {ratio:.3f} +- {errors[name]:.3f} of a training step", file=sys.stderr)
    return {
        "model": model, "image_size": size, "batch": batch, "classes": CLASSES, "steps": steps,
        "mean_seconds": {name: round(mean, 4) for name, mean in means.items()},
        "ratios": ratios, "standard_errors": errors, **facts,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=8, help="timed steps of each kind, of cells (default: 8)")
    parser.add_argument("--steps", type=int, default=24, help="timed steps of each kind, of blocks (default: 24)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_search_step.json"))
    options = parser.parse_args()
    if not options.peer_python:
        parser.error("--peer-python is missing: the interpreter of an environment with PyTorch")
    command = origin()["command"].replace(options.peer_python, "PYTHON")
    cells = measure_cells(options.peer_python, options.rounds)
    result = {
        "threads": 1, "clock": "seconds of the process on its core", "warm_up_steps": WARM_UP,
        "cells": cells,
        "blocks": [measure_blocks(*network, options.steps) for network in NETWORKS],
        **origin(), "command": command, "environment": environment(),
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(cells["ratios"]))


if __name__ == "__main__":
    main()
