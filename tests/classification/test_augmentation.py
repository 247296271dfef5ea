from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from mobilenext.classification.augmentation import OPERATIONS, Augmentation, operate
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.seeds import generator

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
EVERYTHING = Augmentation(image_size=32, rand_augment="rand-m9-mstd0.5")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def constant(*color: int, size: int = 8) -> Image.Image:
    return Image.new("RGB", (size, size), color)


def plain(**values: Any) -> Augmentation:
    """Nothing but what the test turns on."""
    return Augmentation(**({"image_size": 8, "crop": "none", "flip": 0.0} | values))


def assert_uniform(values: list[float], low: float, high: float) -> None:
    """Kolmogorov's test: by chance it fails once in 100,000 times; the draws are fixed, so never by chance later."""
    ranks = (np.sort(values) - low) / (high - low)
    assert ranks[0] >= -1e-9
    assert ranks[-1] <= 1 + 1e-9
    steps = np.arange(len(ranks) + 1) / len(ranks)
    distance = max(np.abs(ranks - steps[1:]).max(), np.abs(ranks - steps[:-1]).max())
    assert distance < math.sqrt(math.log(2e5) / 2 / len(ranks))


# --- determinism


def test_pixels_depend_on_seed_epoch_and_index_alone() -> None:
    image = noise(50, 40)
    order = [(seed, epoch, index) for seed in (0, 7) for epoch in (0, 3) for index in range(5)]
    first = {key: EVERYTHING.pixels(image, generator(*key)).tobytes() for key in order}
    np.random.seed(5)
    other = noise(13, 70, seed=1)
    for key in reversed(order):
        EVERYTHING.pixels(other, generator(9, 9, 9))
        assert EVERYTHING.pixels(image, generator(*key)).tobytes() == first[key]
    assert len(set(first.values())) == len(order)


def test_generators_differ_in_every_argument_and_know_their_limits() -> None:
    words = (0, 1, 2, 2**32, 2**63, 2**64 - 1)
    drawn = {generator(*key).integers(2**63) for key in itertools.product(words, repeat=4)}
    assert len(drawn) == len(words) ** 4
    for key in ((-1, 0, 0), (0, -1, 0), (0, 0, 2**64), (2**64, 0, 0)):
        with pytest.raises(UsageError, match="expected integers from 0"):
            generator(*key)


def test_neighbouring_generators_are_independent() -> None:
    first = np.array([generator(1, 0, index).random(2) for index in range(4000)])  # [4000, 2]
    assert_uniform(first[:, 0].tolist(), 0, 1)
    pairs = [(first[:, 0], first[:, 1]), (first[:-1, 0], first[1:, 0])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(4000)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(5)
    before = str(np.random.get_state())
    batch = np.zeros((1, 3, 8, 8), np.float32)
    EVERYTHING.pixels(noise(20, 20), generator(1, 2, 3))
    plain(erasing=1.0).erase(batch, [generator(1, 2, 3)])
    assert str(np.random.get_state()) == before


# --- crops


def boxes(augmentation: Augmentation, width: int, height: int, draws: int) -> np.ndarray:
    """Left, top, right, bottom of crops [draws, 4], read off an image whose colours are its coordinates."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = Image.fromarray(np.stack([x, y, x * 0], axis=-1).astype(np.uint8))
    found = []
    for index in range(draws):
        pixels = augmentation.pixels(image, generator(2, 0, index))[..., :2].astype(int)  # [S, S, 2]
        found.append([*pixels[0, 0], *(pixels[-1, -1] + 1)])
    return np.array(found)


def test_random_resized_crops_have_the_stated_areas_ratios_and_places() -> None:
    # Upscaled without blending, so the corners show the box exactly.
    augmentation = Augmentation(image_size=256, interpolation="nearest", scale=(0.1, 0.4), flip=0)
    left, top, right, bottom = boxes(augmentation, 250, 200, 1500).T
    w, h = right - left, bottom - top
    # Rounding a side to whole pixels moves the area by half a pixel times the other side, up to 0.5 %.
    area = w * h / (250 * 200)
    assert 0.095 < area.min() < 0.11
    assert 0.38 < area.max() < 0.405
    assert_uniform(area.tolist(), min(0.1, area.min()), max(0.4, area.max()))
    ratio = np.log(w / h) / math.log(4 / 3)
    assert -1.05 < ratio.min() < -0.95
    assert 0.95 < ratio.max() < 1.05
    assert_uniform(ratio.tolist(), min(-1, ratio.min()), max(1, ratio.max()))
    # A place is uniform among those that are free; spread over [0, 1] by its share of them.
    spread = np.random.default_rng(0).random(1500)
    assert_uniform(((left + spread) / (250 - w + 1)).tolist(), 0, 1)
    assert_uniform(((top + spread) / (200 - h + 1)).tolist(), 0, 1)


def test_whole_images_are_among_the_default_crops_and_small_ones_too() -> None:
    left, top, right, bottom = boxes(Augmentation(image_size=256, interpolation="nearest", flip=0), 240, 240, 1000).T
    area = (right - left) * (bottom - top) / 240**2
    assert 0.075 < area.min() < 0.1
    assert area.max() > 0.95


@pytest.mark.parametrize(
    ("size", "ratio", "box"),
    [
        ((200, 20), (3 / 4, 4 / 3), (86, 0, 113, 20)),  # 20 * 4 / 3 = 26.7 wide, (200 - 27) // 2 = 86
        ((20, 200), (3 / 4, 4 / 3), (0, 86, 20, 113)),
        ((22, 20), (0.75, 0.76), (3, 0, 18, 20)),  # 20 * 0.76 = 15.2 wide, (22 - 15) // 2 = 3
    ],
)
def test_an_image_in_which_no_crop_fits_is_cropped_in_the_middle(
    size: tuple[int, int], ratio: tuple[float, float], box: tuple[int, int, int, int]
) -> None:
    augmentation = Augmentation(image_size=256, interpolation="nearest", scale=(1, 1), ratio=ratio, flip=0)
    np.testing.assert_array_equal(boxes(augmentation, *size, 5), [box] * 5)


def test_every_place_for_a_crop_occurs() -> None:
    image = noise(4, 3)
    augmentation = Augmentation(2, scale=(1 / 3, 1 / 3), ratio=(1, 1), interpolation="nearest", flip=0)  # 2 x 2 pixels
    drawn = {augmentation.pixels(image, generator(0, 0, index)).tobytes() for index in range(200)}
    assert drawn == {np.asarray(image)[y : y + 2, x : x + 2].tobytes() for x in range(3) for y in range(2)}


def test_no_crop_is_empty() -> None:
    image = noise(2, 2)
    augmentation = Augmentation(2, scale=(0.01, 0.01), ratio=(1, 1), interpolation="nearest", flip=0)  # 0.2 x 0.2
    np.testing.assert_array_equal(augmentation.pixels(image, generator(0, 0, 0)), np.asarray(image))


def test_a_random_interpolation_is_bilinear_or_bicubic() -> None:
    image = noise(12, 12)
    expected = [image.resize((8, 8), resample).tobytes() for resample in (BILINEAR, BICUBIC)]
    augmentation = Augmentation(image_size=8, scale=(1, 1), ratio=(1, 1), flip=0)
    seen = Counter(augmentation.pixels(image, generator(0, 0, index)).tobytes() for index in range(400))
    assert set(seen) == set(expected)
    assert abs(seen[expected[0]] - 200) < 45  # 4.5 standard deviations of 10
    fixed = dataclasses.replace(augmentation, interpolation="lanczos").pixels(image, generator(0, 0, 0))
    np.testing.assert_array_equal(fixed, np.asarray(image.resize((8, 8), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize("crop", ["none", "pad"])
def test_without_padding_the_centre_of_the_short_side_is_left(crop: str) -> None:
    image = noise(90, 51)
    expected = np.asarray(image.resize((42, 24), BICUBIC))[:, 9:33]  # 24 * 90 / 51 = 42.4
    augmentation = plain(image_size=24, crop=crop, interpolation="bicubic")
    np.testing.assert_array_equal(augmentation.pixels(image, generator(0, 0, 0)), expected)


def test_pad_shifts_the_image_by_every_offset_equally_often() -> None:
    image = noise(8, 8)
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    offsets = {padded[y : y + 8, x : x + 8].tobytes(): (x, y) for x in range(5) for y in range(5)}
    augmentation = plain(crop="pad", padding=2)
    drawn = (augmentation.pixels(image, generator(0, 0, index)).tobytes() for index in range(2500))
    seen = Counter(offsets[pixels] for pixels in drawn)  # KeyError: not the image shifted
    assert len(seen) == 25
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 68  # chi squared, 24 degrees: once in 250,000


def test_flips_are_as_frequent_as_told() -> None:
    image = noise(8, 8)
    straight, mirrored = np.asarray(image).tobytes(), np.asarray(image)[:, ::-1].tobytes()
    for flip, low, high in ((0.0, 0, 0), (0.25, 170, 330), (1.0, 1000, 1000)):
        augmentation = plain(flip=flip)
        seen = Counter(augmentation.pixels(image, generator(0, 0, index)).tobytes() for index in range(1000))
        assert low <= seen[mirrored] <= high
        assert seen[straight] + seen[mirrored] == 1000


# --- colours


def test_jitter_scales_a_grey_image_by_its_brightness_alone() -> None:
    augmentation = plain(color_jitter=0.4)
    factors = []
    for index in range(800):
        pixels = augmentation.pixels(constant(150, 150, 150), generator(0, 0, index))
        assert len(set(pixels.ravel().tolist())) == 1
        factors.append(pixels[0, 0, 0] / 150)
    # The quotient is cut down to a step of 1 / 150: the middle of the step is 1 / 300 higher.
    assert 0.59 < min(factors) < 0.62
    assert 1.38 < max(factors) <= 1.4
    assert_uniform([min(1.4, factor + 1 / 300) for factor in factors], 0.6, 1.4)


def test_jitter_scales_the_contrast_about_the_mean() -> None:
    """Two greys: their mean shows the brightness, their distance brightness times contrast."""
    left, right = np.full((8, 4, 3), 80, np.uint8), np.full((8, 4, 3), 140, np.uint8)
    image = Image.fromarray(np.concatenate([left, right], axis=1))
    contrasts = []
    for index in range(600):
        pixels = plain(color_jitter=0.3).pixels(image, generator(0, 0, index)).astype(float)
        brightness = pixels.mean() / 110
        contrasts.append((pixels[0, 7, 0] - pixels[0, 0, 0]) / 60 / brightness)
    assert 0.66 < min(contrasts) < 0.75
    assert 1.25 < max(contrasts) < 1.34
    assert_uniform([min(1.32, max(0.68, value)) for value in contrasts], 0.68, 1.32)


def test_jitter_scales_the_saturation() -> None:
    """One colour: contrast and saturation each scale its distance from grey; only both together give such extremes."""
    image = constant(150, 100, 50)
    chroma = []
    for index in range(600):
        pixels = plain(color_jitter=0.3).pixels(image, generator(0, 0, index)).astype(float)[0, 0]
        brightness = (pixels @ (0.299, 0.587, 0.114)) / (150 * 0.299 + 100 * 0.587 + 50 * 0.114)
        chroma.append((pixels[0] - pixels[2]) / 100 / brightness)
    # The product of two independent factors of mean 1 and deviation 0.3 / sqrt(3): its deviation is 0.247, one
    # factor's 0.173.
    assert np.std(chroma) == pytest.approx(0.247, abs=0.025)
    assert np.mean(chroma) == pytest.approx(1, abs=0.05)
    assert min(chroma) < 0.62
    assert max(chroma) > 1.5


def test_jitter_comes_in_every_order_and_large_jitter_never_turns_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []

    def enhance(self: Any, factor: float) -> Image.Image:
        calls.append((type(self).__name__, factor))
        return self.image

    monkeypatch.setattr(ImageEnhance._Enhance, "enhance", enhance)
    for index in range(600):
        plain(color_jitter=1.5).pixels(constant(9, 9, 9), generator(0, 0, index))
    orders = Counter(tuple(name for name, _ in calls[start : start + 3]) for start in range(0, 1800, 3))
    assert set(orders) == set(itertools.permutations(("Brightness", "Contrast", "Color")))
    assert min(orders.values()) > 60
    for wanted in ("Brightness", "Contrast", "Color"):
        assert_uniform([factor for name, factor in calls if name == wanted], 0, 2.5)


# --- RandAugment

MEAN = (124, 116, 104)


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, BILINEAR, fillcolor=MEAN)


def by_hand(image: Image.Image) -> dict[str, Image.Image]:
    """Each operation at magnitude 8 and sign -1, from plain Pillow or numpy. The image is 40 wide and 20 high."""
    pixels = np.asarray(image)
    expected = {
        "AutoContrast": ImageOps.autocontrast(image),
        "Equalize": ImageOps.equalize(image),
        "Invert": 255 - pixels,
        "Rotate": image.rotate(-24, BILINEAR, fillcolor=MEAN),
        "Posterize": pixels & 0b11100000,  # int(3.2) = 3 bits
        "Solarize": np.where(pixels >= 204, 255 - pixels, pixels),  # int(204.8)
        "SolarizeAdd": np.where(pixels < 128, pixels + 88, pixels),  # 127 + 88 is below 255
        "Color": ImageEnhance.Color(image).enhance(1.54),
        "Contrast": ImageEnhance.Contrast(image).enhance(1.54),
        "Brightness": np.minimum(255, np.floor(pixels * np.float32(1.54))),
        "Sharpness": ImageEnhance.Sharpness(image).enhance(1.54),
        "ShearX": affine(image, (1, -0.24, 0, 0, 1, 0)),
        "ShearY": affine(image, (1, 0, 0, -0.24, 1, 0)),
        "TranslateXRel": affine(image, (1, 0, -14.4, 0, 1, 0)),
        "TranslateYRel": affine(image, (1, 0, 0, 0, 1, -7.2)),
    }
    return {
        name: value if isinstance(value, Image.Image) else Image.fromarray(value.astype(np.uint8))
        for name, value in expected.items()
    }


def test_each_operation_is_pillows() -> None:
    image = Image.fromarray(np.asarray(noise(40, 20)) // 2 + 60)  # not the whole range, so AutoContrast has work
    bright = noise(40, 20, seed=1)
    assert sorted(by_hand(image)) == sorted(OPERATIONS)
    assert len(OPERATIONS) == 15
    for picture in (image, bright):
        for name, expected in by_hand(picture).items():
            result = np.asarray(operate(name, picture, 8.0, -1, BILINEAR)).astype(int)
            # 14.4 is not the same float by every way to it, and a blend on the edge of two values may fall to either.
            tolerance = 1 if name.startswith("Translate") else 0
            assert np.abs(result - np.asarray(expected)).max() <= tolerance, name
            if picture is image and name != "Solarize":
                assert (result != np.asarray(picture)).any(), name


@pytest.mark.parametrize(
    ("name", "magnitude", "expected"),
    [
        ("Posterize", 0.0, [0, 0, 0, 0]),
        ("Posterize", 2.49, [0, 0, 0, 0]),
        ("Posterize", 2.5, [0, 0, 128, 128]),
        ("Posterize", 10.0, [0, 96, 128, 240]),
        ("Solarize", 0.0, [255, 155, 127, 5]),
        ("Solarize", 10.0, [0, 100, 128, 250]),
        ("SolarizeAdd", 10.0, [110, 210, 128, 250]),
        ("SolarizeAdd", 0.0, [0, 100, 128, 250]),
        ("Brightness", 0.0, [0, 10, 12, 25]),
        ("Brightness", 5.0, [0, 100, 128, 250]),
        ("Rotate", 0.0, [0, 100, 128, 250]),
        ("TranslateXRel", 10.0, [128, 250, None, None]),  # 0.45 * 4 = 1.8 to the left, the nearest pixel is 2
    ],
)
def test_operations_at_their_limits(name: str, magnitude: float, expected: list[int | None]) -> None:
    row = Image.fromarray(np.array([[[0] * 3, [100] * 3, [128] * 3, [250] * 3]], dtype=np.uint8))
    result = np.asarray(operate(name, row, magnitude, 1, Image.Resampling.NEAREST))[0]
    for pixel, grey in zip(result.tolist(), expected, strict=True):
        assert pixel == ([grey] * 3 if grey is not None else list(MEAN))


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown operation 'Cutout'"):
        operate("Cutout", noise(4, 4), 5.0, 1, BILINEAR)


def recorded(monkeypatch: pytest.MonkeyPatch, text: str, draws: int, **values: Any) -> list[list[tuple[Any, ...]]]:
    """Operation, magnitude, sign and interpolation of all that is applied to each of `draws` images."""
    calls: list[tuple[Any, ...]] = []

    def record(name: str, image: Image.Image, *arguments: Any) -> Image.Image:
        calls.append((name, *arguments))
        return image

    monkeypatch.setattr("mobilenext.classification.augmentation.operate", record)
    augmentation, image, found = plain(rand_augment=text, **values), constant(1, 2, 3), []
    for index in range(draws):
        calls.clear()
        augmentation.pixels(image, generator(0, 0, index))
        found.append(list(calls))
    return found


def test_rand_augment_draws_two_operations_and_applies_each_half_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = recorded(monkeypatch, "rand-m9-mstd0.5", 3000)
    counts = Counter(map(len, images))
    assert set(counts) == {0, 1, 2}
    assert counts[0] == pytest.approx(750, abs=110)
    assert counts[2] == pytest.approx(750, abs=110)
    calls = [call for image in images for call in image]
    names = Counter(name for name, *_ in calls)
    assert set(names) == set(OPERATIONS)
    assert sum((count - len(calls) / 15) ** 2 / (len(calls) / 15) for count in names.values()) < 50
    assert any(len(image) == 2 and image[0][0] == image[1][0] for image in images)  # with replacement
    magnitudes = np.array([magnitude for _, magnitude, _, _ in calls])
    assert magnitudes.max() == 10.0
    assert np.median(magnitudes) == pytest.approx(9, abs=0.06)
    assert np.mean(magnitudes < 8.5) == pytest.approx(0.1587, abs=0.03)  # one deviation below
    assert np.mean(magnitudes == 10) == pytest.approx(0.0228, abs=0.012)  # two above, clipped
    for column, pair in ((2, {-1, 1}), (3, {BILINEAR, BICUBIC})):
        seen = Counter(call[column] for call in calls)
        assert set(seen) == pair
        assert max(seen.values()) / len(calls) < 0.55


def test_rand_augment_replaces_jitter() -> None:
    image = noise(8, 8)
    augmentation = plain(rand_augment="rand-m9-p0", color_jitter=0.9)
    np.testing.assert_array_equal(augmentation.pixels(image, generator(0, 0, 0)), np.asarray(image))


def test_rand_augment_follows_the_optional_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = recorded(monkeypatch, "rand-m3-n4-p1", 50, interpolation="bicubic")
    assert {len(image) for image in images} == {4}
    assert {(magnitude, resample) for image in images for _, magnitude, _, resample in image} == {(3.0, BICUBIC)}
    assert not any(recorded(monkeypatch, "rand-m3-mstd1-p0", 50))
    clipped = recorded(monkeypatch, "rand-m0-mstd10-p1.0", 200)
    values = [magnitude for image in clipped for _, magnitude, _, _ in image]
    assert min(values) == 0.0
    assert max(values) == 10.0


# --- erasing


def erased(augmentation: Augmentation, draws: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch before and after [draws, 3, size, size]."""
    before = np.random.default_rng(0).random((draws, 3, size, size), dtype=np.float32) + 9  # noise never is so large
    after = before.copy()
    augmentation.erase(after, [generator(0, 0, index, 1) for index in range(draws)])
    return before, after


def rectangles(changed: np.ndarray) -> np.ndarray:
    """Top, left, bottom, right [N, 4] of where masks [N, H, W] are set; asserts that they are full rectangles."""
    found = []
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        assert mask.sum() == (bottom - top) * (right - left)
        found.append([top, left, bottom, right])
    return np.array(found)


@pytest.mark.parametrize("mode", ["pixel", "const"])
def test_erasing_replaces_one_rectangle_and_nothing_else(mode: str) -> None:
    before, after = erased(plain(erasing=1.0, erasing_mode=mode), 600, 64)
    changed = (before != after).all(axis=1)  # [N, H, W]; a difference in one channel is one in all of them
    np.testing.assert_array_equal(changed, (before != after).any(axis=1))
    top, left, bottom, right = rectangles(changed).T
    height, width = bottom - top, right - left
    assert max(height.max(), width.max()) < 64
    area = height * width / 64**2
    assert 0.015 < area.min() < 0.04
    assert 0.29 < area.max() < 0.345
    # Uniform from 0.02 to 1 / 3; the few that do not fit and are drawn again make it 0.176 instead of 0.177.
    assert area.mean() == pytest.approx(0.176, abs=4.5 * 0.09 / math.sqrt(600))
    log_ratio = np.log(height / width)
    assert log_ratio.mean() == pytest.approx(0, abs=0.13)
    assert log_ratio.std() == pytest.approx(math.log(1 / 0.3) / math.sqrt(3), rel=0.1)
    assert abs(log_ratio).max() < math.log(1 / 0.3) + 0.15
    spread = np.random.default_rng(0).random(600)
    assert_uniform(((top + spread) / (64 - height + 1)).tolist(), 0, 1)
    assert_uniform(((left + spread) / (64 - width + 1)).tolist(), 0, 1)
    values = after[(before != after)]
    if mode == "const":
        assert not values.any()
    else:
        assert values.mean() == pytest.approx(0, abs=0.01)
        assert values.std() == pytest.approx(1, abs=0.01)
        assert len(np.unique(values)) > 0.95 * len(values)  # each value is a draw of its own


def test_erasing_is_as_frequent_as_told_and_each_image_has_its_own_draws() -> None:
    before, after = erased(plain(erasing=0.2), 1000, 16)
    touched = (before != after).any(axis=(1, 2, 3))
    assert touched.sum() == pytest.approx(200, abs=57)
    alone = before[7:8].copy()
    plain(erasing=0.2).erase(alone, [generator(0, 0, 7, 1)])
    np.testing.assert_array_equal(alone[0], after[7])
    before, after = erased(plain(), 50, 16)
    np.testing.assert_array_equal(before, after)


def test_an_erased_rectangle_never_spans_the_image() -> None:
    # The largest and narrowest rectangle would be 1.05 times as long as the image.
    before, after = erased(plain(erasing=1.0), 3000, 6)
    touched = (before != after).any(axis=1)  # [N, H, W]
    top, left, bottom, right = rectangles(touched[touched.any(axis=(1, 2))]).T
    assert max(bottom - top) == max(right - left) == 5
    assert bottom.max() == right.max() == 6


def test_erase_refuses_what_is_no_batch() -> None:
    with pytest.raises(UsageError, match=r"float64 \[1, 3, 4, 4\]; expected float32"):
        plain().erase(np.zeros((1, 3, 4, 4)), [generator(0, 0, 0)])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"float32 \[3, 4, 4\]"):
        plain().erase(np.zeros((3, 4, 4), np.float32), [])
    with pytest.raises(UsageError, match="1 generators for 2 images"):
        plain().erase(np.zeros((2, 3, 4, 4), np.float32), [generator(0, 0, 0)])


# --- the record


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 0, "integer from 1 to 4096"),
        ("image_size", 224.0, "integer from 1"),
        ("image_size", True, "integer from 1"),
        ("padding", -1, "integer from 0"),
        ("padding", 4, "expected crop 'pad', or padding 0"),
        ("crop", "padd", "did you mean 'pad'"),
        ("crop", None, "expected one of random-resized, pad, none"),
        ("scale", (0.0, 1.0), "above 0 and up to 1"),
        ("scale", (0.5, 1.01), "above 0 and up to 1"),
        ("scale", (0.5, 0.4), "least and the largest"),
        ("scale", 0.08, "least and the largest"),
        ("ratio", (0.75,), "least and the largest"),
        ("ratio", (0.75, math.inf), "least and the largest"),
        ("ratio", ("1", 2), "least and the largest"),
        ("interpolation", "bicubc", "did you mean 'bicubic'"),
        ("flip", 1.1, "probability from 0 to 1"),
        ("flip", math.nan, "probability"),
        ("flip", True, "probability"),
        ("color_jitter", -0.1, "at least 0"),
        ("color_jitter", "0.4", "at least 0"),
        ("rand_augment", "rand", "expected '' or"),
        ("rand_augment", "rand-m11", "0 to 10"),
        ("rand_augment", "rand-m9-mstd10.5", "0 to 10"),
        ("rand_augment", "rand-m9-n0", "1 to 15"),
        ("rand_augment", "rand-m9-n16", "1 to 15"),
        ("rand_augment", "rand-m9-p1.5", "probability"),
        ("rand_augment", "rand-m9-mstd0.5-", "expected ''"),
        ("rand_augment", "rand-m9-inc1", "expected ''"),
        ("rand_augment", None, "expected a text"),
        ("rand_augment", ["rand-m9"], "expected a text"),
        ("erasing", -0.2, "probability"),
        ("erasing_mode", "rand", "expected one of pixel, const"),
    ],
)
def test_a_value_outside_its_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Augmentation(**{field: value})
    assert field in str(caught.value)


def test_an_interpolation_that_cannot_turn_images_is_refused_with_rand_augment() -> None:
    with pytest.raises(UsageError, match="turns and shears"):
        Augmentation(interpolation="lanczos", rand_augment="rand-m9")


def test_records_from_json_equal_those_from_python() -> None:
    listed = Augmentation(scale=[0.5, 1], ratio=[1, 1], flip=1)  # type: ignore[arg-type]
    assert listed == Augmentation(scale=(0.5, 1.0), ratio=(1.0, 1.0), flip=1.0)
    assert hash(listed) == hash(Augmentation(scale=(0.5, 1.0), ratio=(1.0, 1.0), flip=1.0))
    assert repr(listed.scale) == "(0.5, 1.0)"


def test_another_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="mode 'L'; expected 'RGB'"):
        Augmentation().pixels(Image.new("L", (4, 4)), generator(0, 0, 0))


@given(
    st.integers(1, 300),
    st.integers(1, 100),
    st.booleans(),
    st.sampled_from(["random-resized", "pad", "none"]),
    st.sampled_from([{}, {"color_jitter": 0.4}, {"rand_augment": "rand-m9-mstd3-n3-p0.8"}]),
    st.integers(1, 24),
    st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_any_image_gives_a_square_of_pixels(
    long: int, short: int, upright: bool, crop: str, colors: dict[str, Any], image_size: int, index: int
) -> None:
    size = (short, long) if upright else (long, short)
    image = noise(*size)
    before = image.tobytes()
    augmentation = Augmentation(
        image_size=image_size, crop=crop, padding=3 if crop == "pad" else 0, erasing=1.0, **colors
    )
    random = generator(1, 2, index)
    pixels = augmentation.pixels(image, random)
    assert pixels.shape == (image_size, image_size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert image.tobytes() == before
    batch = Preprocessing(image_size=image_size).normalize(pixels[None])
    augmentation.erase(batch, [random])
    assert np.isfinite(batch).all()


# --- cutout


def test_cutout_is_a_square_of_zeros_cut_at_the_border() -> None:
    """The rule of the authors' code: rows y - 2 to y + 1 and columns x - 2 to x + 1 for a side of 4 or 5."""
    images = np.ones((300, 3, 8, 6), np.float32)
    randoms = [generator(0, 0, index) for index in range(len(images))]
    plain(cutout=5).cut_out(images, randoms)
    squares = Counter()
    for image in images:
        assert (image == image[0]).all()  # all channels alike
        ys, xs = np.nonzero(image[0] == 0)
        assert len(ys) == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
        squares[(ys.min(), ys.max(), xs.min(), xs.max())] += 1
    expected = {(max(0, y - 2), min(7, y + 1), max(0, x - 2), min(5, x + 1)) for y in range(8) for x in range(6)}
    assert set(squares) <= expected
    assert len(squares) > 0.9 * len(expected)


def test_cutout_depends_on_the_generator_alone() -> None:
    whole = np.ones((4, 3, 8, 8), np.float32)
    parts = whole.copy()
    plain(cutout=4).cut_out(whole, [generator(1, 2, index) for index in range(4)])
    for index in (3, 1, 0, 2):
        plain(cutout=4).cut_out(parts[index : index + 1], [generator(1, 2, index)])
    assert np.array_equal(whole, parts)
    with pytest.raises(UsageError, match="2 generators for 4 images"):
        plain(cutout=4).cut_out(whole, [generator(0, 0, 0)] * 2)
    with pytest.raises(UsageError, match="cutout is -1; expected an integer from 0"):
        plain(cutout=-1)
