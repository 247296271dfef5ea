from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

from mobilenext.classification.metrics import Counts, Prediction, class_scores, predictions_of, ranked, softmax
from mobilenext.errors import WeightsError

LOGITS = np.float32(
    [
        [9, 1, 2, 3, 4, 5, 0],  # best: 0 5 4 3 2
        [0, 1, 2, 3, 4, 5, 6],  # best: 6 5 4 3 2
        [5, 5, 5, 5, 5, 5, 5],  # a tie: 0 1 2 3 4
        [1, 7, 3, 7, 2, 0, 7],  # a tie for the first: 1 3 6 2 4
    ]
)


def rows_with(labels: list[int]) -> list[Prediction]:
    return predictions_of(LOGITS, range(4), "abcd", labels)


def counts_of(rows: list[Prediction]) -> Counts:
    counts = Counts(7)
    for row in rows:
        counts.add(row)
    return counts


def test_the_ranking_with_ties() -> None:
    expected = [[0, 5, 4, 3, 2], [6, 5, 4, 3, 2], [0, 1, 2, 3, 4], [1, 3, 6, 2, 4]]
    assert ranked(LOGITS).tolist() == expected
    assert [list(row.top5) for row in rows_with([0, 0, 0, 0])] == expected
    assert ranked(LOGITS, 2).tolist() == [row[:2] for row in expected]


@pytest.mark.parametrize(
    ("labels", "top1", "top5"),
    [
        ([0, 6, 0, 1], 4, 4),
        ([5, 5, 1, 3], 0, 4),  # the second each
        ([2, 2, 4, 4], 0, 4),  # the fifth each
        ([1, 1, 5, 0], 0, 0),  # the sixth each
        ([0, 1, 6, 6], 1, 2),
    ],
)
def test_counts_against_a_table(labels: list[int], top1: int, top5: int) -> None:
    summary = counts_of(rows_with(labels)).summary()
    assert (summary["images"], summary["correct_top1"], summary["correct_top5"]) == (4, top1, top5)
    assert summary["top1_percent"] == 25.0 * top1
    assert summary["top5_percent"] == 25.0 * top5
    assert summary["unreadable"] == 0


def test_per_class() -> None:
    counts = counts_of(rows_with([0, 0, 0, 1]))
    assert counts.per_class(None) == [
        {
            "class": 0,
            "images": 3,
            "correct_top1": 2,
            "correct_top5": 2,
            "predicted": 2,
            "top1_percent": 66.667,
            "precision_percent": 100.0,
            "f1_percent": 80.0,
        },
        {
            "class": 1,
            "images": 1,
            "correct_top1": 1,
            "correct_top5": 1,
            "predicted": 1,
            "top1_percent": 100.0,
            "precision_percent": 100.0,
            "f1_percent": 100.0,
        },
    ]
    assert [row["name"] for row in counts.per_class(tuple("ABCDEFG"))] == ["A", "B"]


def test_fewer_than_five_classes() -> None:
    (row,) = predictions_of(np.float32([[1, 3, 2]]), [0], ["a"], [0])
    assert row.top5 == (1, 2, 0)
    assert sum(row.scores) == pytest.approx(1, abs=2e-6)
    counts = Counts(3)
    counts.add(row)
    assert (counts.top1, counts.top5) == (0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    logits = LOGITS.copy()
    logits[2, 3] = bad
    with pytest.raises(WeightsError, match=r"not finite.*row 2"):
        predictions_of(logits, range(4), "abcd", [0, 0, 0, 0])


def test_loss_and_scores_by_hand() -> None:
    # Two classes, logits 0 and ln 3: probabilities 1/4 and 3/4.
    first, second = predictions_of(np.float32([[0, math.log(3)]] * 2), [0, 1], ["a", "b"], [0, 1])
    assert first.scores == second.scores == pytest.approx((0.75, 0.25), abs=1e-6)
    assert first.loss == pytest.approx(1.386294, abs=2e-6)  # ln 4
    assert second.loss == pytest.approx(0.287682, abs=2e-6)  # ln 4/3
    counts = Counts(2)
    counts.add(first)
    counts.add(second)
    assert counts.summary()["loss"] == pytest.approx((1.386294 + 0.287682) / 2, abs=2e-6)


def test_softmax_of_large_logits() -> None:
    assert softmax(np.float32([[1e4, 0]])).tolist() == [[1.0, 0.0]]
    (row,) = predictions_of(np.float32([[1e4, 0]]), [0], ["a"], [1])
    assert row.loss is not None
    assert math.isfinite(row.loss)


def test_unreadable_images_count_as_wrong() -> None:
    rows = [*rows_with([0, 6, 0, 1]), Prediction(4, "e", 2, (), (), None, "e: broken")]
    summary = counts_of(rows).summary()
    assert (summary["images"], summary["unreadable"]) == (5, 1)
    assert (summary["correct_top1"], summary["top1_percent"]) == (4, 80.0)
    assert summary["loss"] == counts_of(rows[:4]).summary()["loss"], "a loss that nobody knows is not part of the mean"
    assert counts_of(rows[4:]).summary()["loss"] is None


def test_rows_survive_json() -> None:
    for row in (*rows_with([0, 1, 2, 3]), Prediction(4, "é", 2, (), (), None, "broken")):
        assert Prediction.from_dict(json.loads(json.dumps(row.to_dict()))) == row


@pytest.mark.parametrize(("classes", "images", "seed"), [(2, 9, 0), (5, 60, 1), (12, 20, 2), (40, 500, 3)])
def test_scores_of_the_classes_are_those_of_scikit_learn(classes: int, images: int, seed: int) -> None:
    """Classes without images or never predicted, classes that are predicted only, and unreadable images (-1)."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images) // 2 * 2  # the odd ones have no images
    predicted = np.where(random.random(images) < 0.5, labels, random.integers(-1, classes, images))
    counts = Counts(classes)
    for label, answer in zip(labels.tolist(), predicted.tolist(), strict=True):
        counts.add(Prediction(0, "a", label, () if answer < 0 else (answer,), (), None if answer < 0 else 0.5))
    counts.merge([counts.to_bytes()])
    scores = counts.scores()
    present = np.unique(labels)
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        labels, predicted, labels=present, zero_division=0
    )
    for found, expected in ((scores.precision, precision), (scores.recall, recall), (scores.f1, f1)):
        np.testing.assert_allclose(found[present], expected, rtol=1e-12)
        assert np.isnan(np.delete(found, present)).all()
    means = [recall.mean(), precision.mean(), f1.mean()]
    assert [scores.mean_class_accuracy, scores.macro_precision, scores.macro_f1] == pytest.approx(means, rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is predicted only
        assert scores.mean_class_accuracy == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted))
    assert list(scores.summary().values()) == pytest.approx([100 * mean for mean in means], abs=5.1e-4)


def test_scores_of_rare_classes_by_hand() -> None:
    """50 images of one class and 3 of another, of which 1 is found: half of a good top-1 is chance."""
    scores = class_scores(images=[50, 3, 0], predicted=[51, 1, 1], correct=[49, 1, 0])
    assert scores.recall[:2].tolist() == [0.98, 1 / 3]
    assert scores.precision[:2].tolist() == [49 / 51, 1.0]
    assert scores.f1[:2].tolist() == [98 / 101, 0.5]
    assert scores.summary() == {
        "mean_class_accuracy_percent": 65.667,  # (0.98 + 1 / 3) / 2
        "macro_precision_percent": 98.039,  # (49 / 51 + 1) / 2
        "macro_f1_percent": 73.515,  # (98 / 101 + 1 / 2) / 2
    }


def test_counts_of_several_processes() -> None:
    rows = [*rows_with([0, 6, 0, 1]), Prediction(4, "e", 2, (), (), None, "e: broken")]
    whole, merged = counts_of(rows), counts_of([])
    merged.merge([counts_of(rows[::2]).to_bytes(), counts_of(rows[1::2]).to_bytes()])
    assert (merged.summary(), merged.per_class(None)) == (whole.summary(), whole.per_class(None))
    assert merged.predicted.tolist() == whole.predicted.tolist() == [2, 1, 0, 0, 0, 0, 1]
