from __future__ import annotations

import math

import numpy as np
import pytest

from mobilenext.classification.analysis import (
    Confusion,
    Pair,
    calibration_error,
    confidence_bins,
    confusions,
    difference_interval_points,
    mcnemar_exact,
    paired,
    worst_mistakes,
)


def test_bins_are_closed_on_the_right() -> None:
    confidence = np.array([0.0, 0.2, 0.200001, 0.4, 1.0])
    bins = confidence_bins(confidence, np.array([False, True, True, False, True]), bins=5)
    assert [one.images for one in bins] == [2, 2, 0, 0, 1]
    assert [one.correct for one in bins] == [1, 1, 0, 0, 1]
    assert [one.confidence_sum for one in bins] == pytest.approx([0.2, 0.600001, 0, 0, 1.0])


def test_calibration_error_by_hand() -> None:
    # Bin 0.8 to 1: 3 of 4 right at a mean of 0.9; bin 0.4 to 0.6: 1 of 1 at 0.5. (4/5) 0.15 + (1/5) 0.5 = 0.22.
    confidence = np.array([0.85, 0.95, 0.88, 0.92, 0.5])
    correct = np.array([True, True, True, False, True])
    error = calibration_error(confidence_bins(confidence, correct, bins=5))
    assert error == pytest.approx(0.22, abs=1e-12)


def test_calibration_error_of_a_perfect_and_of_the_worst_network() -> None:
    sure = np.ones(10)
    assert calibration_error(confidence_bins(sure, sure > 0)) == 0
    assert calibration_error(confidence_bins(sure, sure < 0)) == 1
    assert calibration_error(confidence_bins(np.array([]), np.array([], bool))) is None


def test_pairs_of_confused_classes_with_the_way_back() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 0, 1, 1, 2])
    assert confusions(labels, predicted) == [Confusion(0, 1, 2, 1), Confusion(1, 0, 1, 2), Confusion(2, 1, 1, 0)]
    assert confusions(labels, labels) == []


def test_the_worst_mistakes_are_the_most_confident() -> None:
    confidence = np.array([0.9, 0.5, 0.7, 0.7, 0.99])
    correct = np.array([False, False, False, False, True])
    assert worst_mistakes(confidence, correct, 3) == [0, 2, 3]


def test_two_networks_on_the_same_images() -> None:
    labels = np.array([0, 1, 2, 3, 4, 5])
    first = np.array([0, 1, 0, 0, 4, -1])
    second = np.array([0, 0, 2, 0, 4, -1])
    pair = paired(first, second, labels)
    assert pair == Pair(images=6, both=2, only_first=1, only_second=1, neither=2, same_class=3)


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 1, 1.0),
        (0, 6, 2 / 64),
        (1, 9, 2 * (1 + 10) / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (15, 5, 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20),
    ],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, expected: float) -> None:
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_exact(only_second, only_first) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_of_agrestis_approval_ratings() -> None:
    # Agresti, Categorical Data Analysis: 1600 Britons asked twice, 150 and 86 changed their minds; z^2 = 17.36.
    p = mcnemar_exact(150, 86)
    assert p == pytest.approx(2 * sum(math.comb(236, k) for k in range(87)) / 2**236, rel=1e-10)
    assert 1e-5 < p < 1e-4


def test_mcnemar_of_many_images() -> None:
    exact = 2 * sum(math.comb(9800, k) for k in range(4801)) / 2**9800  # integers, divided once
    assert mcnemar_exact(5000, 4800) == pytest.approx(exact, rel=1e-9)
    assert mcnemar_exact(25_000, 0) == 0  # far below the smallest float


def test_interval_of_a_difference_by_hand() -> None:
    # Agresti and Min 2005: n 100, discordant 5 and 10; (10.5 - 5.5)/102 +- 1.959964 sqrt(16 - 25/102)/102.
    low, high = difference_interval_points(Pair(100, 50, 5, 10, 35, 70))
    centre, half = 100 * 5 / 102, 100 * 1.959963984540054 * math.sqrt(16 - 25 / 102) / 102
    assert (low, high) == pytest.approx((centre - half, centre + half))
    low, high = difference_interval_points(Pair(100, 60, 0, 0, 40, 100))
    assert low < 0 < high
    assert low == pytest.approx(-high)
