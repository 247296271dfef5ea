"""Searches for cells with and without the sandglass among the operators, each list against its own random cells.

Source    Zhou et al. 2020: the block added to the operators of DARTS, 25 % fewer parameters, 0.13 points more accurate
Expected  random cells of the longer list have 1 to 3 % fewer parameters already. Cells differ by 17 %: where searches
          save a quarter, four of each list lie above the random ones in half of all cases, eight in 8 of 10; where they
          save a third, four do so in 7 of 10 (simulated, paired t-test)
Cost      about 12 minutes of one core a search, 3 lists x 4, then 3 x 4 more; then 15 to 25 minutes for each found cell
          that is trained

What counts as yes, written before the first search began: the share of parameters (36 channels, 20 cells) that searches
over `darts,sandglass_3x3` save against searches over `darts`, seed by seed, has a 95 % interval that lies wholly above
what random cells of the two lists save by themselves, and trained cells of the two lists differ in accuracy by an
interval that reaches no lower than -1 point. 25 % counts as seen again if the first interval contains it and lies above
12.5 %. Whatever else comes out is "not shown". Shares are of geometric means, of found and of random cells alike.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cell_training as training
from experiments.runs import Experiment, Row, Run, by_seed, difference, finished_run
from mobilenext.models.genotype import Genotype

ARMS = {
    "darts": "darts",
    "sandglass": "darts,sandglass_3x3",
    "plain": "darts,sandglass_3x3_plain",
}
LONGER = tuple(ARMS)[1:]  # than the first, which they are compared with
LEAST_POINTS = -1.0  # of the interval in accuracy, for a yes
FIRST_SEEDS, SEEDS = 4, 8
CHANNELS, CELLS, EPOCHS, IMAGES = 4, 5, 10, 4000
RANDOM_CELLS = 400
SEARCH, TRAINING = "search", "training"  # the two kinds of runs


class Cells(Experiment):
    """Searches, and the training of what they found; see the module."""

    def planned(self) -> Sequence[Run]:
        seeds = [(arm, seed) for seed in range(SEEDS) for arm in ARMS]
        return [*(self._search(*one) for one in seeds), *(self._training(*one) for one in seeds)]

    def _search(self, arm: str, seed: int) -> Run:
        expected = {
            "seed": seed, "recipe.name": "short", "recipe.epochs": EPOCHS, "recipe.channels": CHANNELS,
            "recipe.cells": CELLS, "recipe.operators": ARMS[arm],
        }  # fmt: skip
        rank = 3 if seed < FIRST_SEEDS else 6
        return Run(f"{SEARCH}_{arm}_{seed}", rank, partial(self._search_arguments, arm, seed), expected)

    def _search_arguments(self, arm: str, seed: int, folder: Path) -> Sequence[str]:
        images = folder.parent / f"train_{IMAGES}.txt"
        training.write_list(self.data, images, IMAGES)
        settings = {"channels": CHANNELS, "cells": CELLS, "epochs": EPOCHS, **training.BOX}
        return [
            *("search", str(self.data), "--train-list", str(images.resolve()), "--operators", ARMS[arm]),
            *("--recipe", "short", "--seed", str(seed)),
            *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        ]

    def _training(self, arm: str, seed: int) -> Run:
        search = f"{SEARCH}_{arm}_{seed}"
        begin = partial(self._training_arguments, search, seed)
        return Run(f"{TRAINING}_{arm}_{seed}", 7, begin, {"seed": seed, "recipe.name": training.RECIPE}, (search,))

    def _training_arguments(self, search: str, seed: int, folder: Path) -> Sequence[str]:
        return training.training_arguments(self.data, self._found(search), seed, folder)

    def _found(self, search: str) -> Genotype:
        return _genotype(self.rows()[search]["architecture"])

    def configuration(self) -> dict[str, Any]:
        searches = {"channels": CHANNELS, "cells": CELLS, "epochs": EPOCHS, "train_images": IMAGES, "recipe": "short"}
        return {"search": searches, "training": training.CONFIGURATION, "operators": ARMS}

    def row(self, run: Run, folder: Path) -> dict[str, Any] | None:
        kind, arm, seed = run.name.split("_")
        if kind == TRAINING:
            row = training.cell_row(run, folder, self._found(f"{SEARCH}_{arm}_{seed}"))
            return None if row is None else {"kind": kind, "arm": arm, **row}
        search = finished_run(run, folder)
        if search is None or search.result is None:
            return None
        (found,) = search.result["search"]["found"]
        normal = [name for name, _ in found["architecture"]["normal"]]
        return {
            "kind": kind, "arm": arm, "seed": int(seed),
            **{name: found[name] for name in ("parameters", "mult_adds", "counts")},
            "normal_skips": normal.count("skip_connect"),
            "normal_sandglasses": sum(name.startswith("sandglass") for name in normal),
            "super_network": search.result["final"]["raw"],
            "architecture": found["architecture"],
            "train_seconds": search.result["train_seconds"],
            "data": {"folder": search.config["data"]["folder"], "images": search.config["data"]["train_images"]},
        }  # fmt: skip

    def summary(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """Return random cells of each list, and what the longer lists save, in percent, and gain, in points."""
        sizes = {
            arm: {row["seed"]: row["parameters"] for row in rows.values() if _is(row, SEARCH, arm)} for arm in ARMS
        }
        randoms = {arm: random_cells(ARMS[arm]) for arm in ARMS}
        saved = [
            {"arm": arm, "random": _saved(randoms["darts"]["mean_log"] - randoms[arm]["mean_log"])}
            | _saved_by_seed(sizes["darts"], sizes[arm])
            for arm in LONGER
        ]
        gained = [{"arm": arm, **difference(_trained(rows, arm), _trained(rows, "darts"))} for arm in LONGER]
        return {
            "random": randoms,
            "saved_percent": saved,
            "gained_points": gained,
            "shown": {save["arm"]: is_shown(save, gain) for save, gain in zip(saved, gained, strict=True)},
        }


def is_shown(saved: Mapping[str, Any], gained: Mapping[str, Any]) -> bool:
    """Return whether a longer list of operators gives smaller cells that are as accurate; see the module."""
    smaller, accurate = saved.get("interval"), gained.get("interval")
    return bool(smaller and accurate and smaller[0] > saved["random"] and accurate[0] >= LEAST_POINTS)


def _is(row: Row, kind: str, arm: str) -> bool:
    return bool(row["kind"] == kind and row["arm"] == arm)


def _trained(rows: Mapping[str, Row], arm: str) -> dict[int, float]:
    return by_seed(row for row in rows.values() if _is(row, TRAINING, arm))


def _saved_by_seed(sizes: Mapping[int, float], smaller: Mapping[int, float]) -> dict[str, Any]:
    """Return the share that the second sizes save, in percent, from differences of logarithms by seed."""
    logarithms = ({seed: math.log(size) for seed, size in each.items()} for each in (sizes, smaller))
    row = difference(*logarithms)
    if row["n"]:
        row["mean"], row["differences"] = _saved(row["mean"]), [_saved(value) for value in row["differences"]]
        row["interval"] = row["interval"] and [_saved(end) for end in row["interval"]]
    return row


def _saved(logarithm: float) -> float:
    """Return how much smaller in percent a size is, from the logarithm of the larger over the smaller."""
    return 100 * (1 - math.exp(-logarithm))


def _genotype(architecture: Mapping[str, Any]) -> Genotype:
    return Genotype(*([tuple(edge) for edge in architecture[kind]] for kind in ("normal", "reduce")))


def random_cells(operators: str) -> dict[str, Any]:
    """Return the parameters of random cells of a list of operators: their mean, spread, and middle 80 %."""
    space = training.space(operators)
    generator = np.random.default_rng(0)
    draws = [space.summary(space.random(generator)).parameters for draw in range(RANDOM_CELLS)]
    deciles = statistics.quantiles(draws, n=10)
    spread = {"mean": statistics.mean(draws), "deviation": statistics.stdev(draws)}
    mean_log = statistics.mean(map(math.log, draws))
    return {"n": RANDOM_CELLS, **spread, "mean_log": mean_log, "from": deciles[0], "to": deciles[-1]}
