from __future__ import annotations

import pytest

from mobilenext.drawing.chart import epochs


@pytest.mark.parametrize(
    ("first", "last", "domain", "ticks"),
    [
        (1, 2, [1, 2], [1, 2]),
        (0.1, 2.9, [0, 3], [0, 1, 2, 3]),
        (1, 1, [0, 1], [0, 1]),
        (0.5, 44, [0, 44], [0, 5, 10, 15, 20, 25, 30, 35, 40]),
    ],
)
def test_ticks_at_whole_epochs(first: float, last: float, domain: list[int], ticks: list[int]) -> None:
    across = epochs([{"epoch": first}, {"epoch": last}])
    assert across["scale"]["domain"] == domain
    assert across["axis"]["values"] == ticks
