from __future__ import annotations

import numpy as np
import pytest

from detector_recordings import arrays
from mobilenext.detection.priors import prior_boxes
from mobilenext.models.detector_form import FORMS


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_the_priors_are_the_recorded_ones(form: str) -> None:
    priors = prior_boxes(form)
    assert priors.dtype == np.float32
    np.testing.assert_allclose(priors, arrays("priors")[form], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(priors, prior_boxes(FORMS[form]))


def test_the_caller_owns_the_array() -> None:
    prior_boxes("voc")[:] = 7
    assert prior_boxes("voc").max() == 1


def test_priors_of_another_input_size_lie_at_the_centers_of_its_cells() -> None:
    form = FORMS["voc"].replace(image_size=256)
    priors = prior_boxes(form)
    assert priors.shape == (form.priors, 4)
    # 16, 8, 4, 2, 1, 1 cells: the last level is one cell, whose center is that of the picture.
    assert form.sides == (16, 8, 4, 2, 1, 1)
    np.testing.assert_allclose(priors[0, :2], 0.5 / 16)
    np.testing.assert_allclose(priors[6 * 16 * 16, :2], 0.5 / 8)
    np.testing.assert_allclose(priors[-1, :2], 0.5)
    # The sizes keep their share of the input.
    np.testing.assert_allclose(priors[0, 2:], 45 / 320, rtol=1e-6)
