from __future__ import annotations

import numpy as np
import paddle
import pytest

from detector_recordings import arrays, ground_truth, loss_outputs, recorded
from mobilenext.detection.loss import chosen_by_multibox, losses
from mobilenext.detection.matching import NEGATIVES_OF_EMPTY, match
from mobilenext.errors import UsageError


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_losses_and_gradients_are_the_recorded_ones(form: str) -> None:
    facts, expected = recorded("loss")[form], arrays("loss")
    scores, regressions = (paddle.to_tensor(array, stop_gradient=False) for array in loss_outputs(form))
    classification, regression = losses(scores, regressions, *ground_truth(form), form=form)
    np.testing.assert_allclose(float(classification), facts["classification_loss_float64"], rtol=1e-6)
    np.testing.assert_allclose(float(regression), facts["regression_loss_float64"], rtol=1e-6)
    (classification + regression).backward()
    gradient, box_gradient = scores.grad.numpy(), regressions.grad.numpy()
    np.testing.assert_allclose(np.linalg.norm(gradient), facts["gradient_norm_cls"], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(box_gradient), facts["gradient_norm_reg"], rtol=1e-5)
    np.testing.assert_allclose(gradient[:, :40], expected[f"{form}_grad_cls_first"], rtol=1e-4, atol=1e-8)
    rows = tuple(expected[f"{form}_positive_index"].T)
    np.testing.assert_allclose(box_gradient[rows], expected[f"{form}_grad_reg_positive"], rtol=1e-4, atol=1e-8)


def test_the_hard_negatives_are_the_recorded_ones() -> None:
    facts, labels = recorded("loss")["voc"], arrays("loss")["voc_labels"]
    scores = loss_outputs("voc")[0].astype(float)
    background_losses = np.log(np.exp(scores).sum(axis=2)) - scores[:, :, 0]
    chosen = chosen_by_multibox(background_losses.astype(np.float32), labels)
    np.testing.assert_array_equal(np.packbits(chosen, axis=1), arrays("loss")["voc_mask"])
    assert (chosen & (labels == 0)).sum(axis=1).tolist() == facts["hard_negatives"]


def test_of_equal_negatives_the_lower_priors_count() -> None:
    labels = np.zeros((3, 200), np.int64)
    labels[1, 5] = 4
    labels[2, :199] = 1  # fewer negatives than three for each positive
    chosen = chosen_by_multibox(np.ones((3, 200), np.float32), labels)
    assert np.flatnonzero(chosen[0]).tolist() == list(range(NEGATIVES_OF_EMPTY))
    assert np.flatnonzero(chosen[1]).tolist() == [0, 1, 2, 5]
    assert chosen[2].all()


def outputs(form: str, pictures: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    scores, regressions = loss_outputs(form)
    return tuple(paddle.to_tensor(array[:pictures], stop_gradient=False) for array in (scores, regressions))


def test_a_picture_without_boxes_gives_its_32_hardest_negatives() -> None:
    scores, regressions = outputs("voc", 1)
    classification, regression = losses(scores, regressions, [[]], [[]], form="voc")
    raw = loss_outputs("voc")[0][0].astype(float)
    background_losses = np.log(np.exp(raw).sum(axis=1)) - raw[:, 0]  # [P]
    np.testing.assert_allclose(float(classification), np.sort(background_losses)[-32:].sum(), rtol=1e-5)
    assert float(regression) == 0
    (classification + regression).backward()
    assert (np.abs(scores.grad.numpy()[0]).sum(axis=1) > 0).sum() == 32
    assert not regressions.grad.numpy().any()


def test_an_empty_picture_beside_others_adds_its_negatives_to_the_batch() -> None:
    (boxes, *_), (labels, *_) = ground_truth("voc")
    together = losses(*outputs("voc", 2), [boxes, np.zeros((0, 4))], [labels, []], form="voc")
    alone = losses(*outputs("voc", 1), [boxes], [labels], form="voc")
    raw = loss_outputs("voc")[0][1].astype(float)
    background_losses = np.log(np.exp(raw).sum(axis=1)) - raw[:, 0]
    positives = recorded("loss")["voc"]["positives"][0]
    added = np.sort(background_losses)[-32:].sum() / positives
    np.testing.assert_allclose(float(together[0]), float(alone[0]) + added, rtol=1e-5)
    np.testing.assert_allclose(float(together[1]), float(alone[1]), rtol=1e-6)


def test_the_focal_loss_of_a_picture_without_boxes() -> None:
    """All columns are negatives, the last one too; five times the sum, divided by 1."""
    scores, regressions = outputs("coco", 1)
    classification, regression = losses(scores, regressions, [[]], [[]], form="coco")
    p = 1 / (1 + np.exp(-loss_outputs("coco")[0][0].astype(float)))
    np.testing.assert_allclose(float(classification), 5 * (0.75 * p**2 * -np.log(1 - p)).sum(), rtol=1e-5)
    assert float(regression) == 0


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_losses_of_large_logits_are_exact(form: str) -> None:
    arrays_ = [array[:1] * np.float32(1e4) for array in loss_outputs(form)]
    scores, regressions = (paddle.to_tensor(array, stop_gradient=False) for array in arrays_)
    (boxes, *_), (labels, *_) = ground_truth(form)
    classification, regression = losses(scores, regressions, [boxes], [labels], form=form)
    targets, logits = match(boxes, labels, form), arrays_[0][0].astype(float)
    positives = np.flatnonzero(targets.labels)
    if form == "voc":
        per_class = logits.max(axis=1, keepdims=True) - logits  # the cross-entropy of logits that are this far apart
        negatives = np.setdiff1d(np.arange(len(logits)), positives)
        total = per_class[positives, targets.labels[positives]].sum()
        total += np.sort(per_class[negatives, 0])[-3 * len(positives) :].sum()
    else:
        wrong = logits.copy()
        wrong[positives, targets.labels[positives] - 1] *= -1
        weights = np.full(logits.shape, 0.75)
        weights[positives, targets.labels[positives] - 1] = 0.25
        total = 5 * (weights * wrong.clip(0)).sum()
    np.testing.assert_allclose(float(classification), total / len(positives), rtol=1e-5)
    (classification + regression).backward()
    for values in (regression, scores.grad, regressions.grad):
        assert np.isfinite(values.numpy()).all()
    assert scores.grad.numpy().any()


@pytest.mark.parametrize(
    ("boxes", "labels", "words"),
    [
        ([[[0.1, 0.1, 0.4, 0.4]]], [[21]], "a label is 21; expected 1 to 20"),
        ([[[0.1, 0.1, 0.4, np.nan]]], [[1]], "finite"),
        ([], [], "expected 1 of each"),
    ],
)
def test_what_has_no_loss_is_refused(boxes: list[object], labels: list[object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        losses(*outputs("voc", 1), boxes, labels, form="voc")


def test_outputs_of_another_form_are_refused() -> None:
    with pytest.raises(UsageError, match="the form has 3232 priors"):
        losses(*outputs("voc", 1), [[]], [[]], form="coco")
