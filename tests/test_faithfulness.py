"""The check of the heat maps, and that they pass it on real handwriting."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from deletion import corner, faithfulness, hidden
from mobilenext.data import open_dataset, pixels_of
from mobilenext.data.digits import write_digits
from mobilenext.errors import UsageError
from mobilenext.runtime import open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import prepare_weights
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import source_of
from mobilenext.weights.read import read_weights


def test_squares() -> None:
    random = np.random.default_rng(0)
    small = np.zeros((4, 4), np.float32)
    small[1, 3] = 1
    assert corner(small, 64, 16, hottest=True, random=random) == (16, 48)
    assert corner(small, 64, 32, hottest=True, random=random) == (8, 32)  # moved inside
    cold = {corner(small, 64, 16, hottest=False, random=random) for _ in range(200)}
    assert len(cold) == 15
    assert (16, 48) not in cold
    tensor = np.ones((3, 8, 8), np.float32)
    copies = hidden(tensor, [(0, 0), (6, 5)], 2)
    assert copies.sum(axis=(1, 2, 3)).tolist() == [180, 180]
    assert not copies[1, :, 6:8, 5:7].any()
    assert tensor.all()


@pytest.mark.usefixtures("written_once")
def test_hiding_the_hottest_square_of_real_digits_costs_the_most(tmp_path: Path) -> None:
    weights = read_weights(source_of("mobilenext_x0_35.digits"))
    data = open_dataset(write_digits(tmp_path), limit=200)
    crops = [pixels_of(record.path, weights.preprocessing) for record in data.records]
    network = network_of(weights)
    with tempfile.TemporaryDirectory() as folder:
        runtime = open_runtime(prepare_weights(weights, Path(folder), Choice()).spec)
        (row,) = faithfulness(
            network,
            weights.preprocessing,
            crops,
            block="last",
            sides=(16,),
            predict=lambda batch: runtime.predict(batch)[0],
        )
    # Measured: 3.7 points more than a random square, 4.7 more than the coldest.
    assert row["hottest_minus"]["random"]["interval"][0] > 0
    assert row["hottest_minus"]["random"]["mean"] > 1.5
    assert row["hottest_minus"]["coldest"]["mean"] > 2
    with pytest.raises(UsageError, match="a square of side 65"):
        faithfulness(network, weights.preprocessing, crops, sides=(65,))
    with pytest.raises(UsageError, match="1 images; expected two or more"):
        faithfulness(network, weights.preprocessing, crops[:1], sides=(16,))
