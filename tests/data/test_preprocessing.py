from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenext.data import Preprocessing
from mobilenext.data.preprocessing import INTERPOLATIONS
from mobilenext.errors import DataError, UsageError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def gradient(width: int, height: int) -> Image.Image:
    """Integers only, so that it is the same everywhere."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 7 % 256, y * 5 % 256, (x * y + 3 * x) % 256], axis=-1).astype(np.uint8))


# --- sizes and crops: every number below is worked out by hand from the formulas of torchvision's Resize (short side
# to s, long side to int(s * long / short)) and CenterCrop (top = round((height - c) / 2), a half to even)

CASES = [
    # (width, height), image_size, crop_pct -> resized (width, height), (left, top)
    ((500, 375), 224, 0.875, (341, 256), (58, 16)),  # 341.33; 117 / 2 = 58.5 -> 58, the even side
    ((375, 500), 224, 0.875, (256, 341), (16, 58)),
    ((256, 256), 224, 0.875, (256, 256), (16, 16)),
    ((100, 80), 224, 0.875, (320, 256), (48, 16)),  # upscaling
    ((333, 500), 224, 0.875, (256, 384), (16, 80)),  # 384.38
    ((500, 331), 224, 0.875, (386, 256), (81, 16)),  # 386.7, cut off and not rounded
    ((259, 256), 224, 0.875, (259, 256), (18, 16)),  # 35 / 2 = 17.5 -> 18, the even side
    ((1, 1), 224, 0.875, (256, 256), (16, 16)),
    ((1, 3), 224, 0.875, (256, 768), (16, 272)),
    ((7, 1), 8, 1.0, (56, 8), (24, 0)),
    ((97, 64), 64, 1.0, (97, 64), (16, 0)),  # 33 / 2 = 16.5 -> 16
    ((99, 64), 64, 1.0, (99, 64), (18, 0)),  # 35 / 2 = 17.5 -> 18
    ((640, 480), 224, 0.95, (313, 235), (44, 6)),  # floor(235.79); 313.33; 89 / 2 = 44.5 -> 44; 11 / 2 = 5.5 -> 6
    ((640, 480), 240, 0.9, (354, 266), (57, 13)),  # floor(266.67); 354.67
    ((300, 200), 1, 0.3, (4, 3), (2, 1)),  # floor(3.33); 4.5; 3 / 2 = 1.5 -> 2
]


@pytest.mark.parametrize(("size", "image_size", "crop_pct", "resized", "corner"), CASES)
def test_pixels_are_those_of_pillows_resize_and_crop(
    size: tuple[int, int], image_size: int, crop_pct: float, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = noise(*size)
    left, top = corner
    expected = np.asarray(image.resize(resized, Image.Resampling.BICUBIC))
    expected = expected[top : top + image_size, left : left + image_size]
    pixels = Preprocessing(image_size=image_size, crop_pct=crop_pct).pixels(image)
    assert pixels.shape == (image_size, image_size, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_each_interpolation_is_pillows(interpolation: str) -> None:
    image = noise(90, 70)
    method = getattr(Image.Resampling, interpolation.upper())
    expected = np.asarray(image.resize((41, 32), method))[2:30, 6:34]
    np.testing.assert_array_equal(Preprocessing(28, 0.875, interpolation).pixels(image), expected)


@pytest.mark.parametrize(
    ("image_size", "crop_pct", "resize_size"),
    [
        (224, 0.875, 256),
        (224, 1.0, 224),
        (224, 1, 224),
        (64, 0.95, 67),
        (240, 0.882, 272),
        (224, 0.896, 250),
        (123, 0.0041, 30_000),  # 29999.999999999996 in floating point
        (1, 1 / 93, 93),  # likewise 92.99999999999999
        (224, 224 / 257, 257),
    ],
)
def test_resize_size(image_size: int, crop_pct: float, resize_size: int) -> None:
    assert Preprocessing(image_size=image_size, crop_pct=crop_pct).resize_size == resize_size


def test_the_short_side_is_never_below_the_crop() -> None:
    for image_size in (1, 7, 224, 4096):
        for crop_pct in (1.0, 0.9999999, 1 - 2**-53):
            assert Preprocessing(image_size, crop_pct).resize_size >= image_size


@pytest.mark.parametrize(
    ("size", "interpolation", "total", "corner"),
    [
        ((500, 375), "bicubic", 19251532, [85, 118, 168]),
        ((301, 407), "bilinear", 19115043, [132, 103, 131]),
    ],
)
def test_stored_sums(size: tuple[int, int], interpolation: str, total: int, corner: list[int]) -> None:
    pixels = Preprocessing(interpolation=interpolation).pixels(gradient(*size))
    assert int(pixels.sum(dtype=np.int64)) == total
    assert pixels[0, 0].tolist() == corner


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 x 100000 pixels would be 256 x 25600000 = 6,553,600,000") as caught:
        Preprocessing().pixels(Image.new("RGB", (1, 100_000)))
    assert "89,478,485" in str(caught.value)


def test_a_strip_that_is_enlarged_too_much_is_refused() -> None:
    """At 4 bytes a pixel: it would take 256 MiB, and holds 256,000 pixels."""
    with pytest.raises(DataError, match=r"33,554,432 more than before: too narrow"):
        Preprocessing().pixels(Image.new("RGB", (1, 1024)))
    assert Preprocessing().pixels(Image.new("RGB", (2, 1000))).shape == (224, 224, 3)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="0 x 5 pixels"):
        Preprocessing().pixels(Image.new("RGB", (0, 5)))


def test_only_rgb_is_accepted() -> None:
    with pytest.raises(UsageError, match="mode 'L'"):
        Preprocessing().pixels(Image.new("L", (5, 5)))


# --- normalisation


def every_pixel_value() -> np.ndarray:
    """uint8 [2, 16, 16, 3]: each of the 256 values in each channel."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    one = np.stack([values, values[::-1], values.T], axis=-1)
    return np.stack([one, one[:, ::-1]])


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(), Preprocessing(mean=(0.5, 0, 1), std=(0.5, 1, 0.017)), Preprocessing(mean=(0,) * 3)],
)
def test_normalize_has_the_bits_of_the_plain_computation(preprocessing: Preprocessing) -> None:
    pixels = every_pixel_value()
    scaled = pixels.astype(np.float32) / np.float32(255)
    plain = (scaled - np.array(preprocessing.mean, np.float32)) / np.array(preprocessing.std, np.float32)
    tensor = preprocessing.normalize(pixels)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor.shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(tensor.view(np.uint32), plain.transpose(0, 3, 1, 2).copy().view(np.uint32))


def test_normalize_is_near_the_exact_value() -> None:
    preprocessing = Preprocessing()
    pixels = every_pixel_value()
    exact = (pixels / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)  # float64
    # Three roundings of numbers up to 1, then a division by std: a few units in the last place of 1 / std.
    np.testing.assert_allclose(preprocessing.normalize(pixels).transpose(0, 2, 3, 1), exact, rtol=0, atol=5e-7)


def test_normalize_by_hand() -> None:
    tensor = Preprocessing(mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0)).normalize(np.full((1, 1, 3), 255, np.uint8))
    assert tensor.tolist() == [[[1.0]], [[2.0]], [[1.0]]]


def test_normalize_takes_any_leading_axes_and_memory_order() -> None:
    preprocessing = Preprocessing()
    pixels = every_pixel_value()
    one = preprocessing.normalize(pixels[0])
    assert one.shape == (3, 16, 16)
    np.testing.assert_array_equal(preprocessing.normalize(pixels[None])[0, 0], one)
    np.testing.assert_array_equal(preprocessing.normalize(pixels[:, ::2, ::-1])[0], one[:, ::2, ::-1])
    assert preprocessing.normalize(pixels[:0]).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 3), np.uint8)]
)
def test_normalize_refuses_what_it_cannot_mean(pixels: Any) -> None:
    with pytest.raises(UsageError, match=rf"{pixels.dtype} \[.*expected uint8 \[\.\.\., H, W, 3\]"):
        Preprocessing().normalize(pixels)


def test_call_is_pixels_then_normalize() -> None:
    preprocessing = Preprocessing(image_size=32)
    image = noise(50, 40)
    tensor = preprocessing(image)
    assert tensor.shape == (3, 32, 32)
    np.testing.assert_array_equal(tensor, preprocessing.normalize(preprocessing.pixels(image)))


# --- the record


def test_defaults_are_those_of_the_released_checkpoints() -> None:
    assert Preprocessing().describe() == (
        "short side 256 bicubic, centre crop 224, mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"
    )


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(), Preprocessing(64, 1 / 3, "nearest", (0.1 + 0.2, -1.0, 5e-324), (1.0, 2.0, 1e300))],
)
def test_round_trip_through_json(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_lists_and_integers_make_an_equal_record() -> None:
    values: Any = {"crop_pct": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}
    preprocessing = Preprocessing(**values)
    same = Preprocessing(crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert preprocessing == same
    assert hash(preprocessing) == hash(same)
    assert preprocessing.describe() == same.describe()


def test_from_dict_is_strict() -> None:
    values = Preprocessing().to_dict()
    with pytest.raises(UsageError, match=r"unknown preprocessing key 'crop'.*did you mean 'crop_pct'\?"):
        Preprocessing.from_dict(values | {"crop": 1.0})
    del values["mean"], values["std"]
    with pytest.raises(UsageError, match=r"lacks mean, std; expected image_size, crop_pct"):
        Preprocessing.from_dict(values)


def test_replace() -> None:
    assert Preprocessing().replace(interpolation="bilinear") == Preprocessing(interpolation="bilinear")
    with pytest.raises(UsageError, match=r"'img_size'.*did you mean 'image_size'\?"):
        Preprocessing().replace(img_size=192)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"image_size": 0}, "image_size is 0; expected an integer from 1 to 4096"),
        ({"image_size": 4097}, "image_size is 4097"),
        ({"image_size": 224.0}, r"image_size is 224\.0"),
        ({"image_size": True}, "image_size is True"),
        ({"crop_pct": 0}, "crop_pct is 0; expected a fraction above 0"),
        ({"crop_pct": 1.01}, r"crop_pct is 1\.01"),
        ({"crop_pct": float("nan")}, "crop_pct is nan"),
        ({"crop_pct": "0.875"}, "crop_pct is '0.875'"),
        ({"interpolation": "bicubik"}, r"'bicubik'; expected one of nearest, .*did you mean 'bicubic'\?"),
        ({"interpolation": 3}, "interpolation is 3"),
        ({"mean": (0.5, 0.5)}, r"mean is \(0\.5, 0\.5\); expected three finite numbers"),
        ({"mean": 0.5}, r"mean is 0\.5"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean is .*inf"),
        ({"std": (0.5, 0.5, "x")}, "std is .*'x'"),
        ({"std": (0.5, 0.0, 0.5)}, "expected three numbers above 0"),
    ],
)
def test_values_out_of_range_are_refused(override: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Preprocessing(**override)


# --- squash: the whole image to a square


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(90, 70), (70, 90), (5, 300), (32, 32)])
def test_squashed_pixels_are_those_of_one_resize_by_pillow(size: tuple[int, int], interpolation: str) -> None:
    image = noise(*size)
    expected = np.asarray(image.resize((32, 32), getattr(Image.Resampling, interpolation.upper())))
    preprocessing = Preprocessing(32, interpolation=interpolation, fit="squash")
    np.testing.assert_array_equal(preprocessing.pixels(image), expected)
    assert preprocessing.placement(*size) == ((32, 32), (0, 0))


def test_a_strip_may_be_squashed() -> None:
    assert Preprocessing(8, fit="squash").pixels(noise(30_000, 1)).shape == (8, 8, 3)
    with pytest.raises(DataError, match="0 x 5 pixels"):
        Preprocessing(8, fit="squash").placement(0, 5)


def test_the_default_fit_is_not_stored_and_may_be_missing() -> None:
    assert "fit" not in Preprocessing().to_dict()
    assert Preprocessing.from_dict(Preprocessing().to_dict()).fit == "crop"
    squash = Preprocessing(320, fit="squash")
    assert squash.to_dict() == {**Preprocessing(320).to_dict(), "fit": "squash"}
    assert Preprocessing.from_dict(json.loads(json.dumps(squash.to_dict()))) == squash
    assert squash.replace(fit="crop") == Preprocessing(320)
    assert squash.resize_size == 320
    assert squash.describe().startswith("squashed to 320 x 320 bicubic, mean")
    with pytest.raises(UsageError, match="fit is 'pad'; expected crop or squash"):
        Preprocessing(fit="pad")
