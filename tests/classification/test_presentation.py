from __future__ import annotations

import pytest

from mobilenext.classification.presentation import PRESENTATION, measured
from mobilenext.json_files import Unfit


def test_the_metric_of_counts() -> None:
    """Wilson's interval of 8 of 10, from the table in Wilson's article of 1927: 0.490 to 0.943."""
    top1 = measured({"images": 10, "correct_top1": 8})
    assert (top1.value, top1.text, top1.counts) == (80, "80.00 %", "8/10")
    assert top1.interval == pytest.approx((49.02, 94.33), abs=0.01)
    assert top1.note == "8/10; 95 %: 49.02 to 94.33"


def test_more_right_answers_than_images_are_refused() -> None:
    PRESENTATION.check_counts({"images": 10, "correct_top1": 10}, "val")
    with pytest.raises(Unfit, match="correct_top1 is 11; expected up to 10"):
        PRESENTATION.check_counts({"images": 10, "correct_top1": 11}, "val")
