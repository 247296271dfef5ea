"""A search over the blocks of a MobileNeXt by measured latency, and what its networks are worth.

Source    this project: the space `blocks` of mobilenext search
Expected  a found network above a random one of the same latency, and above a plain MobileNeXt of the same latency
Cost      25 minutes of one core for the search, 6 for each of 27 fine-tunings, 24 for each narrow network

From `mobilenext_x0_35.tiny20` (20 classes, 64 pixels), with latencies of ONNX Runtime on one thread. Budgets are shares
of the published network's latency. For each budget all are trained alike after they have their first weights:

found    begins with the weights that the search writes for it
random   a random network of the space of the same latency (2 %), with first weights made in the same way
plain    a MobileNeXt of the width whose latency is nearest, trained by `tiny`; for the whole budget the published one

It is one search: intervals say what fine-tuning adds, not what another search would find. The search begins with
weights that have seen all of its images, so the half that decides its alphas is not new to them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs import Experiment, Row, Run, by_seed, difference, finished_run, parameters_of, training_row
from mobilenext.data import Preprocessing
from mobilenext.files import write_atomically
from mobilenext.models.architecture import Architecture, read_architecture, write_architecture
from mobilenext.models.sandglass import plan_blocks
from mobilenext.runs.run_folder import read_config
from mobilenext.runs.training_run import KINDS, TrainingRun
from mobilenext.search.cost_table import CostTable, read_cost_table, table_of, write_cost_table
from mobilenext.search.initial import initial_weights
from mobilenext.search.measuring import measure_plans
from mobilenext.search.recipes import SearchRecipe
from mobilenext.search.task import space_of
from mobilenext.weights.pretrained import locate

if TYPE_CHECKING:
    from mobilenext.search.blocks import BlocksSpace

MODEL, WEIGHTS, WIDTH = "mobilenext_x0_35", "mobilenext_x0_35.tiny20", 0.35
CLASSES, IMAGE_SIZE, RUNTIME = 20, 64, "onnxruntime"
SHARES = (62, 80, 100)  # budgets, in percent of the published network's latency; the smallest network takes 60
SEEDS, EPOCHS, LR = 3, 10, 0.05
WIDTHS = [0.025 * step for step in range(2, 15)]  # 0.05 to 0.35
COSTS, SEARCH, LATENCY = "costs", "search", "latency"
KINDS_OF_NETWORK = ("found", "random", "plain")


class Blocks(Experiment):
    """The table of costs, the search, the trainings, and the latencies of all networks; see the module."""

    def planned(self) -> Sequence[Run]:
        tunings = [(kind, share, seed) for seed in range(SEEDS) for share in SHARES for kind in KINDS_OF_NETWORK]
        narrow = [self._plain(share) for share in SHARES if share != 100]
        tuned = [self._tuning(*one) for one in tunings]
        search = Run(SEARCH, 4, self._search_arguments, {"recipe.name": "blocks", "seed": 0}, (COSTS,))
        latency = Run(LATENCY, 4, self._measure, {}, tuple(run.name for run in tuned))
        return [Run(COSTS, 4, _cost_arguments), search, *narrow, *tuned, latency]

    def _plain(self, share: int) -> Run:
        expected = {"recipe.name": "tiny", "seed": 0}
        return Run(f"narrow_{share}_0", 4, partial(self._plain_arguments, share), expected, (COSTS,))

    def _tuning(self, kind: str, share: int, seed: int) -> Run:
        narrow = kind == "plain" and share != 100
        needs = (f"narrow_{share}_0",) if narrow else (SEARCH,)
        begin = partial(self._tuning_arguments, kind, share, seed)
        return Run(f"{kind}_{share}_{seed}", 4, begin, {"recipe.epochs": EPOCHS, "seed": seed}, needs)

    # What begins a run.

    def _search_arguments(self, folder: Path) -> Sequence[str]:
        path = folder.with_name("costs.json")
        write_cost_table(path, self._table())
        budgets = ",".join(f"{self._budget(share):g}" for share in SHARES)
        return ["search", str(self.data), "--weights", WEIGHTS, "--costs", str(path), "--budget", budgets]

    def _plain_arguments(self, share: int, folder: Path) -> Sequence[str]:
        path = folder.with_suffix(".json")
        write_architecture(path, _nearest_plain(self._table(), share))
        return ["train", str(self.data), "--model", str(path), "--recipe", "tiny", "--seed", "0"]

    def _tuning_arguments(self, kind: str, share: int, seed: int, folder: Path) -> Sequence[str]:
        search, weights = folder.with_name(SEARCH), WEIGHTS
        if kind == "found":
            weights = str(search / f"initial_{self._budget(share):g}.safetensors")
        elif kind == "random":
            weights = str(folder.with_suffix(".safetensors"))
            found = read_architecture(search / f"architecture_{self._budget(share):g}.json")
            write_atomically(Path(weights), _random_weights(search, found, seed))
        elif share != 100:
            weights = str(
                folder.with_name(f"narrow_{share}_0") / "last_ema.safetensors"
            )  # as the published weights are
        settings = {"epochs": EPOCHS, "lr": LR, "warmup_epochs": 1}
        return [
            *("train", str(self.data), "--weights", weights, "--recipe", "tiny", "--seed", str(seed)),
            *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        ]

    def _measure(self, folder: Path) -> None:
        """Measure the latency of all networks in turns, in one run."""
        networks = {
            name: Architecture.from_dict(row["architecture"])
            for name, row in self.rows().items()
            if name.startswith(KINDS_OF_NETWORK) and (name.startswith("random") or name.endswith("_0"))
        }
        times = measure_plans(self._table(), [network.blocks for network in networks.values()], CLASSES)
        write_atomically(folder, json.dumps(dict(zip(networks, times, strict=True))).encode())

    def _table(self) -> CostTable:
        return table_of(self.rows()[COSTS]["table"])

    def _budget(self, share: int) -> float:
        return _budget(self.rows()[COSTS]["table"], share)

    # What is kept.

    def configuration(self) -> dict[str, Any]:
        search = {"weights": WEIGHTS, "runtime": RUNTIME, "threads": 1, "budget_percent": SHARES, "recipe": "blocks"}
        return {"search": search, "tuning": {"recipe": "tiny", "epochs": EPOCHS, "lr": LR}, "image_size": IMAGE_SIZE}

    def row(self, run: Run, folder: Path) -> dict[str, Any] | None:
        if run.name in (COSTS, LATENCY) and not folder.is_file():
            return None
        if run.name == COSTS:
            return {"kind": COSTS, "table": read_cost_table(folder).to_dict()}
        if run.name == LATENCY:
            return {"kind": LATENCY, "milliseconds": json.loads(folder.read_text())}
        training = finished_run(run, folder)
        if training is None or training.result is None:
            return None
        if run.name == SEARCH:
            result = training.result
            return {"kind": SEARCH, "found": result["search"]["found"], "train_seconds": result["train_seconds"]}
        kind, share, _ = run.name.split("_")
        architecture = _architecture_of(training)
        row = training_row(training, parameters_of(architecture, CLASSES, IMAGE_SIZE))
        return {"kind": kind, "budget_percent": int(share), **row, "architecture": architecture.to_dict()}

    def summary(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """Return the budgets, and the differences in accuracy of found networks from the others, in points."""
        budgets = {share: _budget(rows[COSTS]["table"], share) for share in SHARES} if COSTS in rows else {}
        return {
            "budgets_ms": budgets,
            "differences": [
                {
                    "budget_percent": share,
                    "first": "found",
                    "second": other,
                    "weights": kind,
                    **difference(*(_top1(rows, name, share, kind) for name in ("found", other))),
                }
                for share in SHARES
                for other in ("random", "plain")
                for kind in KINDS
            ],
        }


def _cost_arguments(folder: Path) -> Sequence[str]:
    del folder
    size = ("--image-size", str(IMAGE_SIZE))
    return ["search", "--measure-costs", RUNTIME, "--model", MODEL, *size, "--threads", "1"]


def _budget(table: Mapping[str, Any], share: int) -> float:
    """Return a budget in milliseconds, of the sum of parts, as all networks of the space are measured."""
    costs = table_of(table).costs(plan_blocks(WIDTH), CLASSES)
    return (
        math.ceil(1e4 * share / 100 * costs.total([0] * len(costs.choices))) / 1e4
    )  # the published one is within 100 %


def _top1(rows: Mapping[str, Row], kind: str, share: int, weights: str) -> dict[int, float]:
    chosen = (row for row in rows.values() if (row["kind"], row.get("budget_percent")) == (kind, share))
    return by_seed(chosen, weights)


def _nearest_plain(table: CostTable, share: int) -> Architecture:
    """Return the MobileNeXt of the width whose latency is nearest to a share of the published one's.

    Both are measured whole, in turns: what the sum of parts is off by does not enter.
    """
    plans = {plan_blocks(width): width for width in WIDTHS}  # widths that are rounded alike are one network
    *times, published = measure_plans(table, [*plans, plan_blocks(WIDTH)], CLASSES)
    wanted = share / 100 * published
    plan = min(zip(times, plans, strict=True), key=lambda pair: abs(pair[0] - wanted))[1]
    return Architecture(space="blocks", blocks=plan, base=MODEL, numbers={"width": plans[plan]})


def _random_weights(search: Path, found: Architecture, seed: int) -> bytes:
    """Return first weights of a random network of a search's space that costs what a found one does."""
    config = read_config(search)
    space: Any = space_of(config, SearchRecipe.from_dict(config["recipe"]))
    return _weights_of(space, space.random(np.random.default_rng(seed), found), config)


def _weights_of(space: BlocksSpace, architecture: Architecture, config: Mapping[str, Any]) -> bytes:
    """Return weights of a network of the space, as a search writes them for one that it has found."""
    beginning = space.network(locate(None, WEIGHTS))
    alphas = {
        name: np.eye(len(row), dtype=np.float32)[index]
        for (name, row), index in zip(beginning.alphas.items(), space.chosen_of(architecture.blocks), strict=True)
    }
    network = space.initial_network(space.first_weights(beginning), alphas)
    assert network is not None
    preprocessing = Preprocessing.from_dict(config["preprocessing"])
    return initial_weights(
        network, architecture, num_classes=CLASSES, preprocessing=preprocessing, labels=config["labels"]
    )


def _architecture_of(training: TrainingRun) -> Architecture:
    """Return what was trained, as a network of the space."""
    stored = training.config.get("architecture")
    return Architecture.from_dict(stored) if stored else Architecture(space="blocks", blocks=plan_blocks(WIDTH))
