from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenext.data import Preprocessing
from mobilenext.data.linear_resize import axis, interpolate, resize
from mobilenext.errors import UsageError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opencv_pixel(pixels: np.ndarray, row: int, column: int, shape: tuple[int, int]) -> list[int]:
    """One pixel of the result, by OpenCV's rule in plain integers."""
    (height, width), (rows, columns) = pixels.shape[:2], shape
    if (height, width) == (2 * rows, 2 * columns):
        block = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(int)
        return [(int(block[..., channel].sum()) + 2) >> 2 for channel in range(3)]

    def position(number: int, inputs: int, outputs: int) -> tuple[int, np.float32]:
        value = np.float32((number + 0.5) * inputs / outputs - 0.5)
        return math.floor(value), np.float32(value - np.float32(math.floor(value)))

    def weights(share: np.float32) -> tuple[int, int]:
        return round(float((np.float32(1) - share) * 2048)), round(float(share * 2048))

    x, share = position(column, width, columns)
    if x < 0:
        x, share = 0, np.float32(0)
    if x >= width - 1:
        x, share = width - 1, np.float32(0)
    w0, w1 = weights(share)
    y, share = position(row, height, rows)
    v0, v1 = weights(share)
    upper, lower = (pixels[min(max(line, 0), height - 1)].astype(int) for line in (y, y + 1))
    after = min(x + 1, width - 1)
    values = []
    for channel in range(3):
        h0, h1 = (int(line[x, channel]) * w0 + int(line[after, channel]) * w1 for line in (upper, lower))
        values.append((((v0 * (h0 >> 4)) >> 16) + ((v1 * (h1 >> 4)) >> 16) + 2) >> 2)
    return values


sides = st.integers(1, 90)


@given(sides, sides, st.integers(1, 45), st.integers(1, 45))
@settings(max_examples=60, deadline=None)
def test_every_pixel_follows_the_rule_of_opencv(height: int, width: int, rows: int, columns: int) -> None:
    pixels = noise(height, width)
    resized = resize(Image.fromarray(pixels), columns, rows)
    random = np.random.default_rng([height, width, rows, columns])
    places = {(0, 0), (rows - 1, columns - 1), (0, columns - 1), (rows - 1, 0)}
    places |= {(int(random.integers(rows)), int(random.integers(columns))) for _ in range(12)}
    for row, column in places:
        assert resized[row, column].tolist() == opencv_pixel(pixels, row, column, (rows, columns))


def test_a_halved_picture_has_the_rounded_means_of_its_blocks() -> None:
    pixels = noise(640, 640)
    blocks = pixels.reshape(320, 2, 320, 2, 3).astype(int).sum(axis=(1, 3))
    np.testing.assert_array_equal(resize(Image.fromarray(pixels), 320, 320), (blocks + 2) // 4)


@pytest.mark.parametrize("shape", [(640, 320), (640, 639), (320, 640)])
def test_only_both_sides_halved_are_averaged(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    resized = resize(Image.fromarray(pixels), 320, 320)
    for place in ((0, 0), (100, 200), (319, 319)):
        assert resized[place].tolist() == opencv_pixel(pixels, *place, (320, 320))


def test_an_image_of_one_pixel_is_one_color() -> None:
    resized = resize(Image.new("RGB", (1, 1), (3, 141, 255)), 320, 320)
    # Where the weights of the two equal rows are both dropped bits of, OpenCV's result is one too small.
    assert (np.abs(resized.astype(int) - (3, 141, 255)) <= 1).all()


def test_the_same_size_changes_nothing() -> None:
    pixels = noise(33, 20)
    np.testing.assert_array_equal(resize(Image.fromarray(pixels), 20, 33), pixels)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (500, 375), (640, 640), (2000, 31)])
def test_the_float32_form_is_linear_interpolation(height: int, width: int) -> None:
    planes = noise(height, width).transpose(2, 0, 1).astype(np.float32)
    rows, columns = ((np.arange(320) + 0.5) * inputs / 320 - 0.5 for inputs in (height, width))
    across = np.apply_along_axis(lambda line: np.interp(columns, np.arange(width), line), 2, planes)
    expected = np.apply_along_axis(lambda line: np.interp(rows, np.arange(height), line), 1, across)
    np.testing.assert_allclose(interpolate(planes, axis(height, 320), axis(width, 320)), expected, atol=0.01)


def test_the_interpolation_is_one_of_whole_images() -> None:
    image = Image.fromarray(noise(50, 70))
    preprocessing = Preprocessing(32, interpolation="opencv_linear", fit="squash")
    np.testing.assert_array_equal(preprocessing.pixels(image), resize(image, 32, 32))
    assert "opencv_linear" in preprocessing.describe()
    with pytest.raises(UsageError, match="fit 'crop'; expected fit 'squash'"):
        Preprocessing(32, interpolation="opencv_linear")


def test_a_large_image_is_resized_band_by_band() -> None:
    import tracemalloc

    image = Image.new("RGB", (4000, 4000), (9, 9, 9))  # Pillow's own memory is not traced
    tracemalloc.start()
    try:
        resize(image, 320, 320)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # as an array, the image has 48 MB
