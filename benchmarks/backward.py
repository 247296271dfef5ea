"""The fifth comparison of a reproduction: gradients, running statistics and losses of training steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from comparison_rows import Bound, Difference, Row, row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference import (
    TIMES,
    allowed,
    comparable_steps,
    first_step,
    gradient_errors,
    has_effect,
    losses,
    network_from,
    reference,
    statistics_errors,
)
from reference_facts import STARTS

VARIANTS = (
    # dtype, compiled depthwise, whether our loss is left out, what PyTorch is moved by, in words
    ("float64", False, True, "epsilon", "network alone, from PyTorch's gradient of the logits"),
    ("float64", False, False, "loss32", "our loss, always in float32"),
    ("float32", False, False, "orders", "Paddle's depthwise convolution"),
    ("float32", True, False, "orders", "compiled depthwise convolution"),
)
MOVED_BY = {"epsilon": "epsilon in float32", "loss32": "a loss in float32", "orders": "float32, in eight orders"}


def backward(start: str) -> Iterator[Row]:
    record, against = reference(start), "PyTorch in float64"
    for dtype, compiled, alone, kind, variant in VARIANTS:
        because = f"{TIMES} x what PyTorch's own move by ({MOVED_BY[kind]})"
        subject, what = f"{start} weights, {variant}", f"{dtype}, {start} weights{', network alone' if alone else ''}"
        network = network_from(start, dtype, compiled=compiled)
        gradients, *_ = first_step(network, record["logits_gradient"] if alone else None)
        errors = gradient_errors(gradients, record)
        difference = Difference(errors.values, errors.absolute, errors.relative, "each gradient's norm")
        bound = Bound(allowed(record, kind, "gradient"), because)
        yield row("backward", f"gradients, {what}", subject, against, difference, bound, worst=errors.worst)
        if alone:
            continue  # the rest has nothing to do with where the gradient comes from
        zeros = sum(gradients[name].size for name in record["names"][~has_effect(record)].tolist())
        difference = Difference(zeros, errors.zero_absolute, errors.zero, "the norm of all gradients")
        roundings = Bound(8 * float(np.finfo(dtype).eps), "8 roundings")
        yield row("backward", f"gradients that are zero, {dtype}", subject, "zero", difference, roundings)
        for name, (absolute, relative) in statistics_errors(network, start, record).items():
            if name == "biased":
                continue
            of = "the standard deviation" if name == "mean" else "the variance"
            difference = Difference(int(record["statistics/sizes"].sum()), absolute, relative, of)
            # Paddle's momentum is 0.9 in float32, off by 2.4e-8, of what is up to ten times the new statistic.
            bound = Bound(1e-6, "1e-6, as Paddle's momentum is in float32")
            if dtype == "float32":
                bound = Bound(max(1e-6, allowed(record, kind, name)), f"{bound.because}, or {because}")
            yield row("backward", f"running {name}s, {dtype}", subject, against, difference, bound)
        steps = comparable_steps(record, kind)
        own = losses(network_from(start, dtype, compiled=compiled))
        off, of_loss = np.abs(own - record["loss"])[:steps], record["loss"][:steps]
        moved = TIMES * float((record[f"own/{kind}/loss"][:steps] / of_loss).max())
        yield row(
            "backward", f"losses of {steps} {'steps' if steps > 1 else 'step'}, {what}", subject, against,
            Difference(steps, float(off.max()), float((off / of_loss).max()), "the loss"),
            Bound(max(moved, 1e-6), f"1e-6 or {because}"),
            losses=own.tolist(), pytorch_losses=record["loss"].tolist(),
            pytorch_losses_move_by=record[f"own/{kind}/loss"].tolist(),
        )  # fmt: skip


def factor_of_variances() -> dict[str, float]:
    """How far Paddle's running variances are from PyTorch's when the unbiased variance is not taken into account."""
    factors = {}
    for start in STARTS:
        network = network_from(start)
        first_step(network)
        factors[start] = statistics_errors(network, start, reference(start))["biased"][1]
    return factors
