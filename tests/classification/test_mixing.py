from __future__ import annotations

import numpy as np
import pytest

from mobilenext.classification.mixing import Mix, Mixing, mix_images, neighbors
from mobilenext.seeds import generator

SIZE = 32


def draws(mixing: Mixing, count: int = 2000) -> list[Mix | None]:
    return [mixing.draw(SIZE, generator(5, 0, step, 3)) for step in range(count)]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 8, 8), dtype=np.float32)


def test_neighbors() -> None:
    assert neighbors(6).tolist() == [1, 0, 3, 2, 5, 4]
    assert neighbors(5).tolist() == [1, 0, 3, 2, 4]
    assert neighbors(1).tolist() == [0]


def test_two_halves_of_a_batch_have_the_pairs_of_the_whole() -> None:
    """Of two processes, each has an even number of consecutive images."""
    whole, mix = images(8), Mix(0.3, (1, 5, 2, 8))
    parts = [whole[:4].copy(), whole[4:].copy()]
    mix_images(whole, mix)
    for part in parts:
        mix_images(part, mix)
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_mixup_by_hand(count: int) -> None:
    batch = images(count)
    expected = [
        0.7 * image + 0.3 * batch[partner] for image, partner in zip(batch, neighbors(count).tolist(), strict=True)
    ]
    mix_images(batch, Mix(0.7))
    np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_cutmix_by_hand(layout: str) -> None:
    batch = images(5)
    if layout != "plain":  # as a view of pixels [N, H, W, C]
        batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    before = batch.copy()
    mix_images(batch, Mix(0.8, (2, 6, 0, 3)))
    for number, partner in enumerate((1, 0, 3, 2, 4)):
        for y in range(8):
            for x in range(8):
                source = partner if 2 <= y < 6 and x < 3 else number
                assert (batch[number, :, y, x] == before[source, :, y, x]).all()


def test_what_is_never_mixed() -> None:
    assert set(draws(Mixing(), 10)) == set(draws(Mixing(mixup=0.2, probability=0.0), 10)) == {None}


def test_the_share_of_mixup_is_beta_distributed() -> None:
    shares = np.array([mix.share for mix in draws(Mixing(mixup=0.4)) if mix])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert len(shares) == 2000
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_the_share_of_cutmix_is_that_of_its_rectangle() -> None:
    middles = []
    for mix in draws(Mixing(cutmix=1.0)):
        assert mix is not None
        assert mix.box is not None
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= SIZE
        assert 0 <= left <= right <= SIZE
        assert mix.share == 1 - (bottom - top) * (right - left) / SIZE**2
        middles.append((top + bottom) / 2)
    assert np.mean(middles) == pytest.approx(SIZE / 2, abs=0.7)


def test_switch_and_probability() -> None:
    mixed = draws(Mixing(mixup=0.4, cutmix=1.0, probability=0.6, switch=0.25))
    cut = [mix for mix in mixed if mix and mix.box]
    assert len([mix for mix in mixed if mix]) / 2000 == pytest.approx(0.6, abs=0.04)
    assert len(cut) / 2000 == pytest.approx(0.15, abs=0.03)
