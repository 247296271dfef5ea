from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobilenext.classification.comparison import compare
from mobilenext.classification.metrics import Counts, Prediction
from mobilenext.data import Preprocessing
from mobilenext.models.published import Published, WeightsCard
from mobilenext.weights.record import WeightsRecord

SMALL: dict[str, Any] = {"image_size": 32, "crop_pct": 1.0}
WEIGHTS = WeightsRecord(
    model="mobilenext_x0_35", num_classes=8, identity_divisor=1, preprocessing=Preprocessing(**SMALL), labels=None,
    path=Path("a.pdparams"), sha256="0" * 64, source_name="a.pdparams", source_sha256="0" * 64, card=None, kind="raw",
    notes=(),
)  # fmt: skip
CARD = WeightsCard(
    tag="t",
    origin="a paper",
    licence="none",
    source=None,
    published=Published("a data set", 1000, 74.0, 91.0),
    use="raw",
    preprocessing=Preprocessing(**SMALL),
)


def counts_of(correct: int, images: int) -> Counts:
    counts = Counts(8)
    for index in range(images):
        counts.add(Prediction(index, "", 0, (0 if index < correct else 1,), (1.0,), 0.0))
    return counts


@pytest.mark.parametrize(
    ("correct", "verdict", "difference"),
    [(740, "reproduced", 0.0), (741, "reproduced", 0.1), (742, "differs", 0.2), (738, "differs", -0.2)],
)
def test_verdicts(correct: int, verdict: str, difference: float) -> None:
    comparison = compare(CARD, counts_of(correct, 1000), WEIGHTS, "fp32")
    assert comparison is not None
    assert (comparison["verdict"], comparison["difference_points"]) == (verdict, difference)
    assert (comparison["expected_top1_percent"], comparison["measured_top1_percent"]) == (74.0, correct / 10)


@pytest.mark.parametrize(
    ("images", "published", "verdict"),
    [
        (50_000, 73.95, "reproduced"),
        (50_000, 74.05, "reproduced"),
        (50_000, 73.949, "differs"),
        (1000, 73.85, "reproduced"),  # an image of a small data set is more than 0.05 points
        (1000, 73.849, "differs"),
    ],
)
def test_the_bound_of_the_verdict(images: int, published: float, verdict: str) -> None:
    card = replace(CARD, published=Published("a data set", images, published, 91.0))
    comparison = compare(card, counts_of(images * 74 // 100, images), WEIGHTS, "fp32")
    assert comparison is not None
    assert comparison["verdict"] == verdict


@pytest.mark.parametrize(
    ("images", "change", "reason"),
    [
        (999, {}, "999 images instead of 1000"),
        (1000, {"preprocessing": Preprocessing(image_size=32)}, "another preprocessing"),
        (1000, {"identity_divisor": 2}, "identity divisor 2 instead of 1"),
        (1000, {"kind": "ema"}, "ema weights instead of raw"),
    ],
)
def test_what_cannot_be_compared(images: int, change: dict[str, Any], reason: str) -> None:
    comparison = compare(CARD, counts_of(740, images), replace(WEIGHTS, **change), "fp32")
    assert comparison is not None
    assert (comparison["verdict"], comparison["reason"]) == ("not comparable", reason)
    assert "difference_points" not in comparison


def test_another_precision_than_the_published_is_not_compared() -> None:
    comparison = compare(CARD, counts_of(700, 1000), WEIGHTS, "int8")
    assert comparison is not None
    assert (comparison["verdict"], comparison["reason"]) == ("not comparable", "int8 instead of fp32")


def test_nothing_published_nothing_compared() -> None:
    for card in (None, replace(CARD, published=None)):
        assert compare(card, counts_of(1, 1), WEIGHTS, "fp32") is None
