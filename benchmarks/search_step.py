"""Speed of a search over blocks on a CPU core, beside a training step of the same network.

    python benchmarks/search_step.py [--steps 12] [-o results/bench_search_step.json]

The network is mobilenext_x0_35 at 64 pixels with 32 images and 20 classes. In turns, step by step:

    training step   as `mobilenext train` makes it
    single path     forwards and backwards through one path of the super-network that was drawn: no optimizer
    search step     as `mobilenext search --space blocks` makes it: a step of the alphas, and one of the weights

Paths differ in cost, so the means over the steps are compared. Seconds are those of the process on its core, so that
other programs on the machine hardly count.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.machine.environment import environment
from mobilenext.machine.process_environment import prepare_process
from mobilenext.origin import origin

MODEL, SIZE, BATCH, CLASSES = "mobilenext_x0_35", 64, 32, 20
WARM_UP = 3


def calls() -> dict[str, Callable[[int], object]]:
    """Return what is timed, by name: functions of the number of the step."""
    import paddle

    from mobilenext.classification.training import ClassificationJob
    from mobilenext.data import Preprocessing
    from mobilenext.job import Batch, Feed, Setup
    from mobilenext.machine.ranks import Ranks
    from mobilenext.models import build_network
    from mobilenext.models.block_search import BlockSearchNetwork
    from mobilenext.search.architect import Architect, frozen
    from mobilenext.search.recipes import RECIPES
    from mobilenext.training.depthwise import accelerate
    from mobilenext.training.stepper import GradientStep, add_gradients

    warnings.filterwarnings("ignore")
    paddle.seed(0)
    recipe = RECIPES["blocks"].replace(batch_size=BATCH, lr_batch_size=BATCH)
    job = ClassificationJob(recipe, Preprocessing(image_size=SIZE, crop_pct=1.0), CLASSES)
    setup = Setup(recipe, job, Ranks(), Feed(0, BATCH))
    plain: Any = build_network(MODEL, num_classes=CLASSES)
    network = BlockSearchNetwork(build_network(MODEL, num_classes=CLASSES))
    for one in (plain, network):
        one.train()
        accelerate(one)
    alphas = list(network.alphas.values())
    own = {id(row) for row in alphas}
    weights = [value for value in network.parameters() if id(value) not in own and not value.stop_gradient]
    training, descent = GradientStep(setup, plain), GradientStep(setup, network, weights)
    architect = Architect(setup, network, descent, weights, network.alphas, lambda alphas, epoch: None)
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCH, 3, SIZE, SIZE), np.float32)
    batch = Batch(images, {"labels": random.integers(0, CLASSES, BATCH)})

    def single_path(step: int) -> None:
        network.draw(random)
        with frozen(alphas):
            add_gradients(setup, network, batch)

    def search_step(step: int) -> None:
        network.draw(random)
        architect.step(batch, batch, 0.01, 0)
        network.draw(random)
        with frozen(alphas):
            descent(batch, step, 0.01)

    def clear(step: int) -> None:
        for weight in weights:
            weight.clear_gradient(set_to_zero=False)

    return {
        "training step": lambda step: training(batch, step, 0.01), "single path": single_path, "clear": clear,
        "search step": search_step,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each (default: 12)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_search_step.json"))
    options = parser.parse_args()
    prepare_process(1)
    timed = calls()
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for step in range(WARM_UP + options.steps):
        for name, call in timed.items():
            started = time.process_time()
            call(step)
            seconds[name].append(time.process_time() - started)
    means = {name: float(np.mean(values[WARM_UP:])) for name, values in seconds.items() if name != "clear"}
    ratios = {name: round(mean / means["training step"], 3) for name, mean in means.items() if name != "training step"}
    result = {
        "model": MODEL, "image_size": SIZE, "batch": BATCH, "classes": CLASSES, "threads": 1, "steps": options.steps,
        "mean_seconds": {name: round(mean, 4) for name, mean in means.items()}, "ratios": ratios,
        **origin(), "environment": environment(),
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.3f} of a training step")


if __name__ == "__main__":
    main()
