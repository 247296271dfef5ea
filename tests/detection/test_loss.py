from __future__ import annotations

import numpy as np
import paddle
import pytest

from detector_recordings import arrays, ground_truth, loss_outputs, recorded
from mobilenext.detection.loss import losses
from mobilenext.detection.matching import match


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


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_targets_are_the_recorded_ones(form: str) -> None:
    expected = arrays("loss")
    targets = [match(*picture, form) for picture in zip(*ground_truth(form), strict=True)]
    np.testing.assert_array_equal([target.labels for target in targets], expected[f"{form}_labels"])
    rows = tuple(expected[f"{form}_positive_index"].T)
    regressions = np.stack([target.regressions for target in targets])
    np.testing.assert_allclose(regressions[rows], expected[f"{form}_positive_targets"], rtol=1e-4, atol=1e-5)
