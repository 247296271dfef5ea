from __future__ import annotations

import pytest

from mobilenext.data import Preprocessing
from mobilenext.data.check import size_problems


@pytest.mark.parametrize(
    ("size", "crop_pct", "images", "sentence"),
    [
        (64, 0.875, [(64, 64)] * 3, "64 px already, and crop_pct 0.875 enlarges them to 73 px"),
        (224, 0.875, [(64, 64), (80, 64), (64, 90)], "64 px and are enlarged to 256 px for a network of 224 px"),
        (64, 1.0, [(64, 64)] * 3, None),
        (224, 0.875, [(500, 375), (224, 224), (640, 480)], None),
        (224, 0.875, [], None),
    ],
)
def test_images_that_do_not_suit_size_and_crop(
    size: int, crop_pct: float, images: list[tuple[int, int]], sentence: str | None
) -> None:
    remarks = size_problems(images, Preprocessing(image_size=size, crop_pct=crop_pct))
    assert len(remarks) == (sentence is not None)
    assert sentence is None or sentence in remarks[0]
