from __future__ import annotations

import numpy as np
import pytest

from detector_recordings import arrays, decode_outputs, recorded
from mobilenext.detection.decoding import decode


@pytest.mark.parametrize("setting", ["voc", "voc_conf0.5", "coco", "coco_conf0.5"])
def test_detections_are_the_recorded_ones(setting: str) -> None:
    form = setting.partition("_")[0]
    facts, expected = recorded("decode")[setting], arrays("decode")
    pictures = decode(*decode_outputs(form), form=form, score_threshold=facts["score_threshold"])
    for number, picture in enumerate(pictures):
        assert len(picture) == facts["images"][number]["kept"]
        np.testing.assert_array_equal(picture.labels, expected[f"{setting}_{number}_labels"])
        np.testing.assert_allclose(picture.boxes, expected[f"{setting}_{number}_boxes"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(picture.scores, expected[f"{setting}_{number}_scores"], rtol=0, atol=1e-5)


def test_mirrored_outputs() -> None:
    """Outputs for the mirrored picture alone give the mirrored boxes; equal ones of both give each box once."""
    scores, regressions = decode_outputs("voc")
    none = np.zeros_like(scores)
    none[..., 0] = 50  # background everywhere
    plain = decode(scores, regressions, form="voc", score_threshold=0.3)
    turned = decode(none, regressions, form="voc", score_threshold=0.3, mirrored=(scores, regressions))
    assert len(plain[0])
    for one, other in zip(plain, turned, strict=True):
        mirrored = one.boxes * [-1, 1, -1, 1] + [320, 0, 320, 0]
        np.testing.assert_allclose(other.boxes, mirrored[:, [2, 1, 0, 3]], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_array_equal(other.scores, one.scores)
