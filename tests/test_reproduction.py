"""Loss, gradients, statistics and ten steps of training against PyTorch, recorded by scripts/reference_training.py.

The bounds are multiples of what PyTorch's own results move by (tests/reference.py). The same comparisons with more
subjects, and those that need images: benchmarks/reproduction.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import paddle
import pytest

import reference as ours
from mobilenext.classification.loss import cross_entropy_sum
from reference import (
    Arrays,
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
from reference_facts import BATCH, REFERENCE, SMOOTHING, STARTS, STEPS, TRAINED, batch


@pytest.fixture(scope="module")
def records() -> dict[str, Arrays]:
    return {start: reference(start) for start in STARTS}


def loss_error(found: np.ndarray, record: Arrays, kind: str) -> tuple[float, float]:
    """Largest difference of the comparable losses, relative, and what is allowed."""
    steps = comparable_steps(record, kind)
    of = record["loss"][:steps]
    own = float((record[f"own/{kind}/loss"][:steps] / of).max())
    return float((np.abs(found[:steps] - of) / of).max()), max(1e-6, ours.TIMES * own)


def test_the_record_is_of_the_weights_in_the_package() -> None:
    with np.load(REFERENCE) as record:
        assert hashlib.sha256(TRAINED.read_bytes()).hexdigest() == record["trained_sha256"].item(), (
            "the weights are other ones: run scripts/reference_training.py"
        )


@pytest.mark.parametrize("start", STARTS)
def test_loss(start: str, records: dict[str, Arrays]) -> None:
    logits, labels = paddle.to_tensor(records[start]["logits"]), paddle.to_tensor(batch()[1])
    assert float(cross_entropy_sum(logits, labels, SMOOTHING)) / BATCH == pytest.approx(
        records[start]["loss"][0], rel=1e-6
    )


@pytest.mark.parametrize("start", STARTS)
def test_gradients_in_float64(start: str, records: dict[str, Arrays]) -> None:
    record = records[start]
    assert int(has_effect(record).sum()) == len(record["names"]) - 25
    network = network_from(start, "float64")
    # 1e-6: our loss is in float32, and on another processor it rounds in another way.
    for given, kind, at_least in ((record["logits_gradient"], "epsilon", 0.0), (None, "loss32", 1e-6)):
        gradients, logits, _ = first_step(network, given)
        assert logits.dtype == np.float64
        errors = gradient_errors(gradients, record)
        assert errors.relative <= max(at_least, allowed(record, kind, "gradient")), errors
        assert errors.zero <= 8 * np.finfo(np.float64).eps
        assert np.abs(logits - record["logits"]).max() / record["logits"].std() <= allowed(record, "epsilon", "logits")
        network.clear_gradients()


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_in_float32(compiled: bool, records: dict[str, Arrays]) -> None:
    gradients, logits, _ = first_step(network_from("trained", compiled=compiled))
    assert logits.dtype == np.float32
    errors = gradient_errors(gradients, records["trained"])
    assert errors.relative <= allowed(records["trained"], "orders", "gradient"), errors
    assert errors.zero <= 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize("start", STARTS)
def test_running_statistics(start: str, records: dict[str, Arrays]) -> None:
    network = network_from(start, "float64")
    first_step(network)
    found = statistics_errors(network, start, records[start])
    assert found["mean"][1] <= 1e-6
    assert found["variance"][1] <= 1e-6
    assert found["biased"][1] > 5e-3  # so the factor of the unbiased variance is needed


@pytest.mark.parametrize("start", STARTS)
def test_losses_in_float64(start: str, records: dict[str, Arrays]) -> None:
    record = records[start]
    assert comparable_steps(record, "loss32") == {"formula": 3, "trained": STEPS}[start]
    error, bound = loss_error(losses(network_from(start, "float64")), record, "loss32")
    assert error <= bound


@pytest.mark.parametrize("compiled", [False, True])
def test_losses_in_float32(compiled: bool, records: dict[str, Arrays]) -> None:
    error, bound = loss_error(losses(network_from("trained", compiled=compiled)), records["trained"], "orders")
    assert error <= bound


@pytest.mark.parametrize("change", [{"nesterov": False}, {"decay_1d": True}], ids=str)
def test_another_recipe_is_noticed(
    change: dict[str, Any], records: dict[str, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(ours.recipe(), **change)
    monkeypatch.setattr(ours, "recipe", lambda: other)
    error, bound = loss_error(losses(network_from("trained", "float64")), records["trained"], "loss32")
    assert error > 10 * bound
