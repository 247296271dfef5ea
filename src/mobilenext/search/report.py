"""What a search says of the architectures that it has found: lines on the screen, fields of log and result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.models.architecture import Architecture
from mobilenext.search.space import Space, Summary
from mobilenext.seeds import generator
from mobilenext.statistics import percent_text

log = logging.getLogger(__name__)

RANDOM = 5  # random architectures beside the one that was found
RANDOM_PURPOSE = 17  # of their generators, beside those of `mobilenext.search.stepper`


def architecture_lines(summary: Summary, expected_cost: float, unit: str) -> list[str]:
    """Return what is printed after an epoch."""
    counts = ", ".join(f"{name} {number}" for name, number in summary.counts.items())
    size = {"parameters": summary.parameters, "mult_adds": summary.mult_adds}
    lines = [f"architecture so far: {counts}; {_words(size, unit)}; expected cost {expected_cost:.3f} {unit}"]
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
    top1_percent: Callable[[Architecture], float | None],
    measured: Sequence[Mapping[str, float]] = (),
) -> dict[str, Any]:
    """Return the result of a search: each architecture, and the mean of random ones of the same space beside it.

    `top1_percent` returns the accuracy of an architecture in the super-network; None where it cannot be run alone.
    `measured` is what was measured of each, where something was.
    """
    entries = []
    for number, (budget, architecture) in enumerate(architectures.items()):
        summary = space.summary(architecture)
        generators = [generator(seed, number, draw, RANDOM_PURPOSE) for draw in range(RANDOM)]
        drawn = [space.random(random, architecture) for random in generators]
        values, random = _values(summary), _mean([_values(space.summary(one)) for one in drawn])
        if (accuracy := top1_percent(architecture)) is not None:
            values["top1_percent"] = accuracy
            random |= _mean([{"top1_percent": top1_percent(one) or 0.0} for one in drawn])
        entries.append(
            {
                **({} if budget is None else {"budget": budget}),
                **fields_of(architecture, summary),
                **values,
                "random": {"architectures": RANDOM, **random},
            }
        )
        log.info(
            "found%s: %s, %s; mean of %d random ones: %s",
            "" if budget is None else f" for {budget:g} {space.unit}", architecture.name, _words(values, space.unit),
            RANDOM, _words(random, space.unit),
        )  # fmt: skip
    for entry, numbers in zip(entries, measured, strict=False):
        entry["measured"] = dict(numbers)
    return {"found": entries}


def _values(summary: Summary) -> dict[str, float]:
    values = {"parameters": summary.parameters, "mult_adds": summary.mult_adds, "cost": summary.cost}
    return {name: value for name, value in values.items() if value is not None}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _words(values: Mapping[str, float], unit: str) -> str:
    parts = [f"{values['parameters'] / 1e6:.3f} M parameters, {values['mult_adds'] / 1e6:.1f} M mult-adds"]
    if "cost" in values:
        parts.append(f"{values['cost']:.3f} {unit} by its parts")
    if "top1_percent" in values:
        parts.append(f"top-1 {percent_text(values['top1_percent'])} in the super-network")
    return ", ".join(parts)
