"""Steps of a search on request, for `benchmarks/search_step.py`: each in the process that this file starts.

    python benchmarks/search_calls.py cells CHANNELS CELLS SIZE BATCH BEGINNING.npz
    python benchmarks/search_calls.py blocks MODEL SIZE BATCH

First it prints a line of JSON on itself; then, for each line of its input, it makes the step of that name, and prints
another one: seconds, those of the processor, and the loss where there is one; for `profile NAME`, the shares of the
operators in a step. Images are random and lie in memory.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.machine.environment import peak_memory_mib
from mobilenext.machine.process_environment import prepare_process
from training import operators

PROFILE = "profile "  # before the name of a step
CLASSES = {"cells": 10, "blocks": 20}
Calls = dict[str, Callable[[int], Any]]  # by name: functions of the number of the step, which may return sums of a step


def random_batches(size: int, batch: int, classes: int) -> list[Any]:
    """Return a batch of each half."""
    from mobilenext.job import Batch

    random = np.random.default_rng(0)
    pixels = random.standard_normal((2, batch, 3, size, size), np.float32)
    return [Batch(images, {"labels": random.integers(0, classes, batch)}) for images in pixels]


class Search:
    """What a search makes its steps with."""

    def __init__(self, network: Any, recipe: Any, size: int, classes: int) -> None:
        from mobilenext.classification.training import ClassificationJob
        from mobilenext.data import Preprocessing
        from mobilenext.job import Feed, Setup
        from mobilenext.machine.ranks import Ranks
        from mobilenext.search.architect import Architect
        from mobilenext.training.acceleration import accelerate
        from mobilenext.training.stepper import GradientStep

        network.train()
        accelerate(network)
        job = ClassificationJob(recipe, Preprocessing(image_size=size, crop_pct=1.0), classes)
        self.setup, self.network = Setup(recipe, job, Ranks(), Feed(0, recipe.batch_size)), network
        self.alphas = list(network.alphas.values()) if hasattr(network, "alphas") else []
        own = {id(table) for table in self.alphas}
        self.weights = [value for value in network.parameters() if id(value) not in own and not value.stop_gradient]
        self.descent = GradientStep(self.setup, network, self.weights)
        if self.alphas:
            self.architect = Architect(self.setup, network, self.descent, self.weights, network.alphas)


def blocks(model: str, size: int, batch: int) -> tuple[Calls, dict[str, Any]]:
    """Return what is timed of a search over the blocks of a model, and how much a path that is drawn computes."""
    from mobilenext.models import build_network
    from mobilenext.models.block_search import BlockSearchNetwork
    from mobilenext.models.cards import known_model
    from mobilenext.models.sandglass import plan_blocks
    from mobilenext.search.architect import frozen
    from mobilenext.search.cost import count_costs
    from mobilenext.search.recipes import RECIPES
    from mobilenext.training.stepper import add_gradients

    classes = CLASSES["blocks"]
    recipe = RECIPES["blocks"].replace(batch_size=batch, lr_batch_size=batch)
    network = BlockSearchNetwork(build_network(model, num_classes=classes))
    plain = Search(build_network(model, num_classes=classes), recipe, size, classes)
    search = Search(network, recipe, size, classes)
    train, validation = random_batches(size, batch, classes)
    random = np.random.default_rng(0)

    def single_path(step: int) -> None:
        network.draw(random)
        with frozen(search.alphas):
            add_gradients(search.setup, network, train)

    def clear(step: int) -> None:
        for weight in search.weights:
            weight.clear_gradient(set_to_zero=False)

    def search_step(step: int) -> Any:
        network.draw(random)
        search.architect.step(train, validation, 0.01, 0)
        network.draw(random)
        with frozen(search.alphas):
            return search.descent(train, step, 0.01)

    def training_step(step: int) -> Any:
        return plain.descent(train, step, 0.01)

    card = known_model(model)
    assert card is not None
    costs = count_costs(plan_blocks(card.arguments["width"]), "mult_adds", size, classes)
    drawn = costs.expected(network.alphas).item() / costs.total([0] * len(costs.choices))  # before the alphas change
    calls: Calls = {
        "training step": training_step,
        "single path": single_path,
        "clear": clear,
        "search step": search_step,
    }
    return calls, {"path_mult_adds": round(drawn, 3)}


def cells(channels: int, cells: int, size: int, batch: int, beginning: Path) -> tuple[Calls, dict[str, Any]]:
    """Return the steps of a search of cells in both orders, and what is known before the first one.

    The weights and batches are written to `beginning`.
    """
    from mobilenext.models.cell_search import CellSearchNetwork
    from mobilenext.search.architect import frozen
    from mobilenext.search.recipes import RECIPES
    from mobilenext.training.rehearsal import rehearse

    classes = CLASSES["cells"]
    recipe = RECIPES["short"].replace(batch_size=batch, lr_batch_size=batch, channels=channels, cells=cells)
    network = CellSearchNetwork(channels=channels, cells=cells, num_classes=classes)
    train, validation = random_batches(size, batch, classes)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for part, of_part in (("train", train), ("validation", validation)):
        arrays |= {f"{part} images": of_part.inputs, f"{part} labels": of_part.targets["labels"]}
    np.savez(beginning, **arrays)
    first = Search(network, recipe, size, classes)
    rehearsal = rehearse(network, recipe, 1)
    other = CellSearchNetwork(channels=channels, cells=cells, num_classes=classes)
    other.set_state_dict(network.state_dict())
    second = Search(other, recipe.replace(order=2), size, classes)

    def step_of(search: Search) -> Callable[[int], Any]:
        def step(number: int) -> Any:
            search.architect.step(train, validation, 0.025, 0)
            with frozen(search.alphas):
                return search.descent(train, number, 0.025)

        return step

    facts = {
        "parameters": sum(value.size for value in (*first.weights, *first.alphas)),
        "estimated_memory_mib": round(rehearsal.peak_memory_mib),
        "estimated_seconds_of_a_pass": round(rehearsal.seconds, 3),
    }
    return {"order 1": step_of(first), "order 2": step_of(second)}, facts


def main() -> None:
    prepare_process(1)
    warnings.filterwarnings("ignore")
    import paddle

    paddle.seed(0)
    kind, *arguments = sys.argv[1:]
    if kind == "cells":
        channels, of_depth, size, batch = map(int, arguments[:4])
        calls, facts = cells(channels, of_depth, size, batch, Path(arguments[4]))
    else:
        calls, facts = blocks(arguments[0], int(arguments[1]), int(arguments[2]))
    print(json.dumps(facts), flush=True)
    for number, line in enumerate(sys.stdin):
        name = line.strip()
        if name.startswith(PROFILE):
            call = calls[name.removeprefix(PROFILE)]
            print(json.dumps({"operators": operators(partial(call, number), paddle)}), flush=True)
            continue
        started, of_process = time.perf_counter(), time.process_time()
        sums = calls[name](number)
        loss = float(sums[0][0] / sums[0][1]) if sums else None
        answer = {
            "seconds": time.perf_counter() - started,
            "processor_seconds": time.process_time() - of_process,
            "loss": loss,
            "peak_memory_mib": round(peak_memory_mib()),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
