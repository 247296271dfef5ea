"""What a search says of the architectures that it has found: lines on the screen, fields of log and result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.models.architecture import Architecture
from mobilenext.search.space import Space, Summary
from mobilenext.seeds import generator

log = logging.getLogger(__name__)

RANDOM = 5  # random architectures beside the one that was found
RANDOM_PURPOSE = 17  # of their generators, beside those of `mobilenext.search.stepper`


def sizes(summary: Summary) -> str:
    """Return the size of a final network in words."""
    return f"{summary.parameters / 1e6:.3f} M parameters, {summary.mult_adds / 1e6:.1f} M mult-adds"


def architecture_lines(summary: Summary, expected_cost: float, unit: str) -> list[str]:
    """Return what is printed after an epoch."""
    counts = ", ".join(f"{name} {number}" for name, number in summary.counts.items())
    lines = [f"architecture so far: {counts}; {sizes(summary)}; expected cost {expected_cost:.3f} {unit}"]
    return [*lines, f"warning: {summary.warning}"] if summary.warning else lines


def fields_of(architecture: Architecture, summary: Summary) -> dict[str, Any]:
    """Return an architecture and its summary as the log and the result hold them."""
    return {
        "architecture": architecture.to_dict(),
        "parameters": summary.parameters,
        "mult_adds": summary.mult_adds,
        "counts": dict(summary.counts),
        **({"cost": summary.cost} if summary.cost is not None else {}),
        **({"warning": summary.warning} if summary.warning else {}),
    }


def beside_random(
    space: Space,
    architectures: Mapping[float | None, Architecture],
    seed: int,
    measured: Sequence[Mapping[str, float]] = (),
) -> dict[str, Any]:
    """Return the result of a search: each architecture, and the mean of random ones of the same space beside it.

    `measured` is what was measured of each, where something was.
    """
    entries = []
    for number, (budget, architecture) in enumerate(architectures.items()):
        summary = space.summary(architecture)
        generators = [generator(seed, number, draw, RANDOM_PURPOSE) for draw in range(RANDOM)]
        randoms = [space.summary(space.random(random, architecture)) for random in generators]
        names = ("parameters", "mult_adds") if summary.cost is None else ("parameters", "mult_adds", "cost")
        means = {name: float(np.mean([getattr(one, name) for one in randoms])) for name in names}
        entries.append(
            {
                **({} if budget is None else {"budget": budget}),
                **fields_of(architecture, summary),
                "random": {"architectures": RANDOM, **means},
            }
        )
        log.info(
            "found%s: %s, %s; mean of %d random ones: %.3f M parameters, %.1f M mult-adds",
            "" if budget is None else f" for {budget:g} {space.unit}", architecture.name, sizes(summary), RANDOM,
            means["parameters"] / 1e6, means["mult_adds"] / 1e6,
        )  # fmt: skip
    for entry, numbers in zip(entries, measured, strict=False):
        entry["measured"] = dict(numbers)
    return {"found": entries}
