"""MobileNeXt against MobileNetV2 with enough seeds to tell, and the variants of the block: training on 20 classes.

Source    Zhou et al. 2020: MobileNeXt is more accurate than MobileNetV2 of the same size, and the sandglass block than
          its variants
Expected  MobileNeXt above MobileNetV2; of five pairs the interval reaches 1.2 standard deviations to either side
Cost      24 minutes of one core a run: 10 of the pairs, 7 of the variants

Both networks at width 0.35 from seed 0, from seed 1, ... with the recipe `tiny`; then each variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.runs import Experiment, Row, Run, by_seed, difference, finished_run, training_row
from mobilenext.models import MODELS
from mobilenext.models.cards import VARIANT
from mobilenext.runs.training_run import KINDS

FIRST, SECOND = "mobilenext_x0_35", "mobilenetv2_x0_35"
VARIANTS = [name for name, card in MODELS.items() if card.family == VARIANT and name.endswith("_x0_35")]
EPOCHS, SEEDS, VARIANT_SEEDS = 44, 5, 1


class Pairs(Experiment):
    """Training runs of both networks and of the variants; see the module."""

    epochs, seeds, variant_seeds = EPOCHS, SEEDS, VARIANT_SEEDS

    def planned(self) -> Sequence[Run]:
        pairs = [(model, seed, 1) for seed in range(self.seeds) for model in (FIRST, SECOND)]
        variants = [(model, seed, 5) for seed in range(self.variant_seeds) for model in VARIANTS]
        return [self._run(*one) for one in (*pairs, *variants)]

    def _run(self, model: str, seed: int, rank: int) -> Run:
        expected = {"model": model, "seed": seed, "recipe.name": "tiny", "recipe.epochs": self.epochs}
        return Run(f"{model}_{seed}", rank, partial(self._arguments, model, seed), expected)

    def _arguments(self, model: str, seed: int, folder: Path) -> Sequence[str]:
        del folder
        options = ["--model", model, "--recipe", "tiny", "--set", f"epochs={self.epochs}", "--seed", str(seed)]
        return ["train", str(self.data), *options]

    def configuration(self) -> dict[str, Any]:
        return {"recipe": "tiny", "epochs": self.epochs}

    def row(self, run: Run, folder: Path) -> dict[str, Any] | None:
        training = finished_run(run, folder)
        if training is None:
            return None
        model = training.config["model"]
        return {"model": model, **training_row(training, MODELS[model].parameters)}

    def summary(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """Return the differences of both kinds of weights, of MobileNeXt less each other network."""
        pairs = [(other, kind) for other in (SECOND, *VARIANTS) for kind in KINDS]
        return {
            "pairs": [
                {
                    "first": FIRST,
                    "second": other,
                    "weights": kind,
                    **difference(*(_top1(rows, model, kind) for model in (FIRST, other))),
                }
                for other, kind in pairs
            ]
        }


def _top1(rows: Mapping[str, Row], model: str, kind: str) -> dict[int, float]:
    return by_seed((row for row in rows.values() if row["model"] == model), kind)
