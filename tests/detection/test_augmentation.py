from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenext.detection.augmentation import Boxes, DetectionAugmentation
from mobilenext.detection.colors import Colors
from mobilenext.errors import UsageError

PAINTS = {1: (250, 20, 20), 2: (20, 250, 20), 3: (20, 20, 250)}
NOTHING = DetectionAugmentation(distort=0, expand=0, crop=0, flip=0)


def painted() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A gray picture of 640 x 480 with a red, a green and a blue rectangle, which are its boxes."""
    pixels = np.full((480, 640, 3), 60, np.uint8)
    corners = np.array([[40, 60, 240, 200], [300, 220, 420, 460], [480, 40, 620, 140]])
    for label, (x1, y1, x2, y2) in enumerate(corners, 1):
        pixels[y1:y2, x1:x2] = PAINTS[label]
    return Image.fromarray(pixels), corners, np.array([1, 2, 3])


def test_boxes_stay_on_their_objects_and_in_the_picture() -> None:
    augmentation = DetectionAugmentation(distort=0)
    sizes = []
    for seed in range(15):
        pixels, corners, labels = augmentation.sample(*painted(), np.random.default_rng(seed))
        assert (pixels.dtype, pixels.shape) == (np.float32, (320, 320, 3))
        assert (corners.dtype, labels.dtype) == (np.float32, np.int64)
        assert len(corners) == len(labels) > 0
        assert ((corners >= 0) & (corners <= 1)).all()
        for label, (x1, y1, x2, y2) in zip(labels, corners * 320, strict=True):
            mask = np.abs(pixels - PAINTS[int(label)]).max(axis=2) < 1  # the object without its mixed edges
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose(edges, [x1, y1, x2, y2], atol=1.6)
            sizes.append(x2 - x1)
    assert max(sizes) > 4 * min(sizes)  # the pictures differ


def test_without_any_change_it_is_a_resize() -> None:
    image, corners, labels = painted()
    pixels, shares, kept = NOTHING.sample(image, corners, labels, np.random.default_rng(0))
    np.testing.assert_allclose(shares, corners / np.array([640, 480, 640, 480]), rtol=1e-6)
    np.testing.assert_array_equal(kept, labels)
    assert pixels[0, 0].tolist() == [60] * 3
    assert pixels[80, 60].tolist() == [250, 20, 20]  # 640 x 480 at 2 and 1.5 pixels a pixel: (120, 120)


sides = st.integers(1, 60)


def linear(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear interpolation along an axis, in float64."""
    inputs = values.shape[axis]
    positions = (np.arange(size) + 0.5) * inputs / size - 0.5
    return np.apply_along_axis(lambda line: np.interp(positions, np.arange(inputs), line), axis, values)


@given(sides, sides, st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_the_shortcut_equals_the_steps_one_by_one(width: int, height: int, seed: int) -> None:
    """The same draws with a canvas that is painted, cut, mirrored and resized as a whole."""
    augmentation = DetectionAugmentation(image_size=224)
    random = np.random.default_rng(seed)
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    corners, labels = (
        np.array([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]]),
        np.array([1, 2]),
    )
    pixels, shares, kept = augmentation.sample(Image.fromarray(picture), corners, labels, np.random.default_rng(seed))

    random = np.random.default_rng(seed)
    colors = augmentation._draw_colors(random)
    canvas = augmentation._draw_canvas(width, height, random)
    window, boxes = augmentation._draw_crop(canvas, Boxes(corners, labels), random)
    painting = np.empty((canvas.height, canvas.width, 3))
    painting[:] = 123, 117, 104
    changed = colors.change(picture.astype(np.float32).transpose(2, 0, 1).copy()).transpose(1, 2, 0)
    painting[-canvas.top :, -canvas.left :][:height, :width] = changed
    left, top = window.left - canvas.left, window.top - canvas.top
    part = painting[top : top + window.height, left : left + window.width]
    edges = boxes.corners - [window.left, window.top] * 2
    if random.random() < augmentation.flip:
        part = part[:, ::-1]
        edges[:, [0, 2]] = window.width - edges[:, [2, 0]]
    np.testing.assert_allclose(pixels, linear(linear(part, 224, 0), 224, 1), atol=0.05)
    np.testing.assert_allclose(shares, edges / ([window.width, window.height] * 2), atol=1e-6)
    np.testing.assert_array_equal(kept, boxes.labels)


def test_the_generator_decides_everything() -> None:
    image, corners, labels = painted()
    before = np.asarray(image).copy(), corners.copy(), labels.copy()
    augmentation = DetectionAugmentation()
    first = augmentation.sample(image, corners, labels, np.random.default_rng(5))
    np.random.seed(1)
    again = augmentation.sample(image, corners, labels, np.random.default_rng(5))
    other = augmentation.sample(image, corners, labels, np.random.default_rng(6))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])
    for one, two in zip(before, (np.asarray(image), corners, labels), strict=True):
        np.testing.assert_array_equal(one, two)


def windows(augmentation: DetectionAugmentation, samples: int) -> list[np.ndarray]:
    """The corners of a box that is the right half of an 8 x 8 picture."""
    image, box = Image.new("RGB", (8, 8)), [[4, 0, 8, 8]]
    randoms = map(np.random.default_rng, range(samples))
    return [augmentation.sample(image, box, [1], random)[1][0] for random in randoms]


def test_half_of_the_pictures_are_mirrored() -> None:
    boxes = windows(dataclasses.replace(NOTHING, image_size=224, flip=0.5), 100)
    mirrored = sum(box.tolist() == [0, 0, 0.5, 1] for box in boxes)
    assert mirrored + sum(box.tolist() == [0.5, 0, 1, 1] for box in boxes) == 100
    assert 30 <= mirrored <= 70


def test_half_of_the_pictures_lie_on_a_canvas_up_to_four_times_as_large() -> None:
    heights = np.array(
        [y2 - y1 for _, y1, _, y2 in windows(dataclasses.replace(NOTHING, image_size=224, expand=0.5), 200)]
    )
    expanded = heights[heights < 1]
    assert 65 <= len(expanded) <= 130
    assert expanded.min() >= 0.25
    assert 2 < (1 / expanded).mean() < 3  # of the uniform 1 to 4: 2.5


def test_crops_overlap_a_box_as_much_as_was_drawn() -> None:
    """Of three kinds with equal chance: the whole, any part, or one that overlaps the only box by 0.7."""
    augmentation, image = DetectionAugmentation(expand=0, crop_ious=(0.7,)), Image.new("RGB", (400, 300))
    box, ious = Boxes(np.array([[100.0, 100, 300, 250]]), np.array([4])), []
    whole = 0
    for seed in range(300):
        canvas = augmentation._draw_canvas(*image.size, np.random.default_rng(seed))
        window, (corners, labels) = augmentation._draw_crop(canvas, box, np.random.default_rng(seed))
        if window == canvas:
            whole += 1
            continue
        left, top, right, bottom = window.left, window.top, window.left + window.width, window.top + window.height
        assert 0 <= left < 200 < right <= 400  # the center of the box is inside
        assert 0 <= top < 175 < bottom <= 300
        assert window.width >= 0.3 * 400 - 1
        assert window.height >= 0.3 * 300 - 1
        assert 0.5 - 0.02 <= window.height / window.width <= 2 + 0.02
        cut = [max(100, left), max(100, top), min(300, right), min(250, bottom)]
        assert corners.tolist() == [cut]
        assert labels.tolist() == [4]
        shared = (cut[2] - cut[0]) * (cut[3] - cut[1])
        ious.append(shared / (window.width * window.height + 200 * 150 - shared))
    assert 70 <= whole <= 135
    assert sum(iou >= 0.7 for iou in ious) >= 25  # where 50 tries do not reach it, a kind is drawn again
    assert sum(iou < 0.7 for iou in ious) >= 50


def test_a_picture_without_boxes_is_varied_too() -> None:
    image = painted()[0]
    results = [DetectionAugmentation().sample(image, [], [], np.random.default_rng(seed)) for seed in range(12)]
    assert all(corners.shape == (0, 4) and labels.shape == (0,) for _, corners, labels in results)
    assert len({pixels.tobytes() for pixels, _, _ in results}) == 12


def test_boxes_without_area_are_dropped_with_their_labels() -> None:
    image, corners, labels = painted()
    degenerate = [[10, 10, 10, 50], [10, 10, 50, 10], [50, 10, 20, 40], [30, 60, 40, 50], [5, 5, 5 + 1e-9, 9]]
    mixed = [degenerate[0], corners[0], *degenerate[1:3], corners[1], *degenerate[3:], corners[2]]
    _, shares, kept = NOTHING.sample(image, mixed, [9, 1, 9, 9, 2, 9, 9, 3], np.random.default_rng(0))
    assert kept.tolist() == labels.tolist()
    assert (shares[:, 2:] > shares[:, :2]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    for seed in range(6):
        pixels, _, _ = DetectionAugmentation().sample(
            Image.new("RGB", size), [[0, 0, *size]], [1], np.random.default_rng(seed)
        )
        assert np.isfinite(pixels).all()


def test_a_large_picture_is_never_an_array() -> None:
    image = Image.new("RGB", (6000, 4000))  # 72 MB as an array
    tracemalloc.start()
    try:
        NOTHING.sample(image, [[0, 0, 6000, 4000]], [1], np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def opencv_hsv(pixel: list[float], factor: float, degrees: float) -> list[float]:
    """One pixel to HSV, changed, and back, as OpenCV does it for floats."""
    red, green, blue = pixel
    value, least = max(pixel), min(pixel)
    chroma = value - least
    saturation = chroma / (abs(value) + 2**-23)
    if value == red:
        hue = 60 * (green - blue) / (chroma + 2**-23)
    elif value == green:
        hue = 120 + 60 * (blue - red) / (chroma + 2**-23)
    else:
        hue = 240 + 60 * (red - green) / (chroma + 2**-23)
    hue = (hue + degrees) % 360 / 60
    saturation *= factor
    sector, rest = int(hue), hue - int(hue)
    low = value * (1 - saturation)
    falling, rising = value * (1 - saturation * rest), value * (1 - saturation * (1 - rest))
    return [
        [value, rising, low], [falling, value, low], [low, value, rising],
        [low, falling, value], [rising, low, value], [value, low, falling],
    ][sector]  # fmt: skip


@given(
    st.lists(st.lists(st.floats(-40, 300, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    st.floats(0.5, 1.5),
    st.sampled_from([0.0, -18.0, 7.5, 18.0, 170.0]),
)
@settings(max_examples=60, deadline=None)
def test_hue_and_saturation_change_as_opencv_changes_them(
    pixels: list[list[float]], factor: float, degrees: float
) -> None:
    rounded = [[round(value, 1) for value in pixel] for pixel in pixels]  # OpenCV's epsilon decides about tiny numbers
    planes = np.array(rounded, np.float32).T[:, None]  # [3, 1, pixels]
    changed = Colors(saturation=factor, hue=degrees).change(planes)[:, 0].T
    expected = [opencv_hsv(pixel, factor, degrees) for pixel in rounded]
    if degrees or factor != 1:
        np.testing.assert_allclose(changed, expected, atol=0.02)


def test_brightness_contrast_and_order_by_hand() -> None:
    planes = np.array([100, 50, 20], np.float32)[:, None, None]
    first = Colors(brightness=10, contrast=2, saturation=0.5, order=(2, 0, 1)).change(planes.copy())
    assert first.ravel().tolist() == [140, 220, 170]  # 220, 120, 60: half as far from 220
    last = Colors(brightness=-30, contrast=2, contrast_first=False).change(planes.copy())
    assert last.ravel().tolist() == [140, 40, -20]  # nothing is clipped


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_size": 100}, "224 to 512"),
        ({"flip": 1.5}, "from 0 to 1"),
        ({"brightness": float("nan")}, "from 0 to 255"),
        ({"contrast": (1.5, 0.5)}, "least and the largest"),
        ({"expansion": (0.5, 2)}, "from 1 to 10"),
        ({"crop_sides": (0, 1)}, "least and the largest"),
        ({"crop_ious": (0.1, 1.0)}, "below 1"),
        ({"crop_ratio": "12"}, "least and the largest"),
    ],
)
def test_values_outside_their_range_are_refused(values: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DetectionAugmentation(**values)


def test_a_record_from_json_equals_the_original() -> None:
    values = dataclasses.asdict(DetectionAugmentation())
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    assert DetectionAugmentation(**lists) == DetectionAugmentation()
    assert hash(DetectionAugmentation(**lists)) == hash(DetectionAugmentation())
