from __future__ import annotations

import zlib

import numpy as np
import pytest

from detector_recordings import recorded
from golden import uniform
from mobilenext.detection import preprocess
from mobilenext.detection.preprocessing import detection_preprocessing
from mobilenext.errors import UsageError


@pytest.mark.parametrize("number", [0, 1])
def test_preprocessing_is_the_recorded_one(number: int) -> None:
    facts = recorded("preprocess")["images"][number]
    shape = (facts["height"], facts["width"], 3)
    image = np.floor(256 * uniform(facts["key"], np.prod(shape))).astype(np.uint8).reshape(shape)
    tensor = preprocess(image)
    assert (tensor.dtype, tensor.shape) == (np.float32, (3, 320, 320))
    # The resized bytes, back from the tensor.
    std, mean = (np.array(recorded("preprocess")[name])[:, None, None] for name in ("std", "mean"))
    pixels = np.rint(tensor * std + mean).astype(np.uint8).transpose(1, 2, 0)
    assert zlib.crc32(pixels.tobytes()) == facts["crc32_resized_uint8_hwc"]
    np.testing.assert_allclose(tensor.mean(axis=(1, 2)), facts["channel_mean"], rtol=1e-4)
    np.testing.assert_allclose(tensor[:, 0, :4], facts["first_values"], atol=1e-5)


def test_the_input_size_is_an_option() -> None:
    assert preprocess(np.zeros((5, 9, 3), np.uint8), image_size=256).shape == (3, 256, 256)


def test_the_preprocessing_is_stored_and_read_back() -> None:
    preprocessing = detection_preprocessing(320)
    assert type(preprocessing).from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), [[1]]]
)
def test_what_is_no_picture_is_refused(image: object) -> None:
    with pytest.raises(UsageError, match="expected"):
        preprocess(image)  # type: ignore[arg-type]
