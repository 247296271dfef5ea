from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mobilenext.classification.balance import balanced_order, weights_of_classes
from mobilenext.seeds import generator


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    labels = np.repeat(np.arange(4), [50, 3, 20, 7])
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    found = weights_of_classes("balanced", [50, 3, 20, 7])
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[labels].mean() == pytest.approx(1)


def test_other_weights() -> None:
    assert weights_of_classes("none", [1, 2]) is None
    found = weights_of_classes("1, 2.5,1e-2", [9, 9, 9])
    assert found is not None
    assert found.tolist() == pytest.approx([1, 2.5, 0.01])
    with pytest.raises(ValueError, match="2 weights for 3 classes"):
        weights_of_classes("1,2", [9, 9, 9])
    balanced = weights_of_classes("balanced", [6, 0, 2])
    assert balanced is not None
    assert balanced.tolist() == pytest.approx([8 / 12, 1, 2])  # over the two classes that have images


@pytest.mark.parametrize("sizes", [(50, 3), (7, 7, 7), (1, 1, 1, 40), (10, 0, 4), (3,), (1, 2, 3, 4, 5, 6)])
def test_each_class_as_often(sizes: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    total, present = len(labels), sum(size > 0 for size in sizes)
    orders = []
    for epoch in range(4):
        order, repeats = balanced_order(labels, generator(5, epoch, 0))
        orders.append(order.tolist())
        assert len(order) == len(repeats) == total
        of_class = Counter(labels[order].tolist())
        assert set(of_class) == {label for label, size in enumerate(sizes) if size}
        assert set(of_class.values()) <= {total // present, -(-total // present)}
        times = Counter(order.tolist())
        for label, size in enumerate(sizes):
            own = [times[int(position)] for position in np.flatnonzero(labels == label)]
            assert not size or max(own) - min(own) <= 1
        # The repeats of an image are 0, 1, 2, ...: each is augmented in its own way.
        assert len(set(zip(order.tolist(), repeats.tolist(), strict=True))) == total
        assert all(repeat < times[position] for position, repeat in zip(order.tolist(), repeats.tolist(), strict=True))
    assert total < 4 or len(set(map(tuple, orders))) == 4
    again, _ = balanced_order(labels, generator(5, 3, 0))
    assert again.tolist() == orders[3]
