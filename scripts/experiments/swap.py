"""The sandglass block in the published cells of DARTS, without a search.

Source    Zhou et al. 2020 add their block to the operators of DARTS: 25 % fewer parameters, 0.13 points more accurate
          (CIFAR-10); the cells were never published
Expected  three sandglasses for three of the five separable convolutions of DARTS_V2's normal cell: 24.1 % fewer
          parameters at 36 channels and 20 cells. Of three seeds the interval of a difference in accuracy reaches about
          2.5 standard deviations to either side
Cost      15 to 25 minutes of one core a run: 9 runs

DARTS_V2 against itself with its first three 3x3 separable convolutions replaced by sandglasses, and by inverted
residuals: small networks (16 channels, 8 cells) on CIFAR-10 at 16 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.cell_training import CONFIGURATION, cell_row, expected, training_arguments
from experiments.runs import Experiment, Row, Run, by_seed, difference
from mobilenext.models.genotype import GENOTYPES, Genotype

PUBLISHED, REPLACED, SWAPPED, SEEDS = "darts_v2", "sep_conv_3x3", 3, 3
ARMS = {PUBLISHED: None, "sandglass": "sandglass_3x3", "inverted_residual": "inverted_residual_3x3"}


def genotype_of(arm: str) -> Genotype:
    """Return the published cells with the operator of an arm in place of the first separable convolutions."""
    published, operator = GENOTYPES[PUBLISHED], ARMS[arm]
    edges, left = [], SWAPPED if operator else 0
    for name, source in published.normal:
        swap = bool(left) and name == REPLACED
        left -= swap
        edges.append((operator if swap and operator else name, source))
    return Genotype(edges, list(published.reduce))


class Swap(Experiment):
    """Training runs of the three networks; see the module."""

    def planned(self) -> Sequence[Run]:
        return [self._run(arm, seed) for seed in range(SEEDS) for arm in ARMS]

    def _run(self, arm: str, seed: int) -> Run:
        genotype = genotype_of(arm)
        begin = partial(training_arguments, self.data, genotype, seed)
        return Run(f"{arm}_{seed}", 2, begin, expected(genotype, seed))

    def configuration(self) -> dict[str, Any]:
        return {**CONFIGURATION, "published": PUBLISHED, "replaced": REPLACED, "swapped": SWAPPED}

    def row(self, run: Run, folder: Path) -> dict[str, Any] | None:
        arm = run.name.rpartition("_")[0]
        row = cell_row(run, folder, genotype_of(arm))
        return None if row is None else {"arm": arm, **row}

    def summary(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """Return the differences in accuracy from the published cells, in points."""
        top1 = {arm: by_seed(row for row in rows.values() if row["arm"] == arm) for arm in ARMS}
        return {
            "differences": [
                {"first": arm, "second": PUBLISHED, **difference(top1[arm], top1[PUBLISHED])}
                for arm in ARMS
                if arm != PUBLISHED
            ]
        }
