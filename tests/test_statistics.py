from __future__ import annotations

import math

import pytest

from mobilenext.statistics import paired, student_quantile, welch


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [
        *((0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.975, 4, 2.7764), (0.975, 10, 2.2281), (0.975, 30, 2.0423)),
        *((0.975, 120, 1.9799), (0.975, 10_000, 1.9602), (0.95, 5, 2.0150), (0.995, 3, 5.8409), (0.5, 7, 0.0)),
    ],
)
def test_student_quantiles_of_the_textbook(probability: float, degrees: float, t: float) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(t, abs=6e-5)


def test_student_quantiles_in_closed_form() -> None:
    # One degree of freedom is Cauchy's distribution; two have t = (2p - 1) sqrt(2 / (1 - (2p - 1)^2)).
    for p in (0.6, 0.9, 0.975, 0.999):
        assert student_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-6)
        assert student_quantile(p, 2) == pytest.approx((2 * p - 1) * math.sqrt(2 / (1 - (2 * p - 1) ** 2)), rel=1e-6)


def test_welch_by_hand() -> None:
    # Means 72 and 62, variances 4 and 4: standard error sqrt(8 / 3) = 1.63299, 4 degrees, half 2.7764 * 1.63299.
    difference, interval, degrees = welch([70, 72, 74], [60, 62, 64])
    assert (difference, degrees) == (10, pytest.approx(4))
    assert interval == pytest.approx([5.4661, 14.5339], abs=1e-3)
    # Variances 4 / 3 and 3 / 3 of the means: (7 / 3)^2 / ((16 / 9 + 1) / 2) = 3.92 degrees.
    difference, interval, degrees = welch([3, 5, 7], [1, 1, 4])
    assert (difference, degrees) == (3, pytest.approx(3.92))
    assert interval is not None
    half = interval[1] - 3
    assert 2.7764 < half / math.sqrt(7 / 3) < 3.1824  # t of 4 and of 3 degrees
    # One sample without spread: only the other's degree of freedom and standard error, 1 and 1, are left.
    assert welch([70, 72], [60, 60, 60])[1] == pytest.approx([-1.7062, 23.7062], abs=1e-3)
    assert welch([1, 1], [2, 2]) == (-1, None, None)


def test_paired_by_hand() -> None:
    # Differences 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5) = 0.70711, half 2.7764 * 0.70711.
    mean, interval = paired([11, 22, 33, 44, 55], [10, 20, 30, 40, 50])
    assert mean == 3
    assert interval == pytest.approx([1.0368, 4.9632], abs=1e-3)
    assert paired([3], [1]) == (2, None)
    assert paired([3, 4], [1, 2]) == (2, None)
    with pytest.raises(ValueError, match="zip"):
        paired([1, 2], [1])
