from __future__ import annotations

import math

import numpy as np
import pytest

from mobilenext.statistics import percent, wilson_percent


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_against_published_values(count: int, of: int, low: float, high: float) -> None:
    found = wilson_percent(count, of)
    assert found == pytest.approx([low, high], abs=0.005001)
    assert math.copysign(1, found[0]) == 1, "minus zero"


@pytest.mark.parametrize(("count", "of"), [(37011, 50_000), (45823, 50_000), (1, 1), (3, 7), (24, 24)])
def test_wilson_solves_its_equation(count: int, of: int) -> None:
    # The bounds are the p at which the score test just rejects: (share - p)^2 = 1.96^2 p (1 - p) / n.
    share, z2 = count / of, 1.959964**2
    roots = sorted(np.roots([1 + z2 / of, -(2 * share + z2 / of), share**2]).real)
    assert wilson_percent(count, of) == pytest.approx([100 * root for root in roots], abs=0.001)


def test_wilson_of_the_published_accuracy() -> None:
    assert wilson_percent(37011, 50_000) == pytest.approx([73.64, 74.40], abs=0.005)


def test_percent() -> None:
    assert percent(37011, 50_000) == 74.022
    assert percent(2, 3) == 66.667
    assert percent(0, 7) == 0.0
