from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_recordings import arrays, ground_truth, recorded
from mobilenext.detection.coding import decode_boxes, encode, to_corners
from mobilenext.detection.matching import ious_with_priors, match
from mobilenext.detection.priors import prior_boxes
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import FORMS, Form

SMALL = Form(loss="multibox", image_size=224, ratios=((2,),) * 6)  # few priors, so that loops take little time


def slow_iou(box: np.ndarray, other: np.ndarray) -> np.float32:
    """The overlap as the authors count it, in float32."""
    zero, f = np.float32(0), np.float32
    width = max(min(box[2], other[2]) - max(box[0], other[0]), zero)
    height = max(min(box[3], other[3]) - max(box[1], other[1]), zero)
    intersection = f(width * height)
    area, other_area = f((box[2] - box[0]) * (box[3] - box[1])), f((other[2] - other[0]) * (other[3] - other[1]))
    return f(intersection / f(f(f(area + other_area) - intersection) + f(1e-5)))


def slow_match(corners: np.ndarray, labels: list[int], form: Form) -> tuple[list[int], list[list[float]]]:
    """The rules in loops: every prior takes its best box, then each box in turn its best prior."""
    priors = prior_boxes(form)
    boxes = [np.float32(box) for box in corners]
    taken = []
    for prior in to_corners(priors):
        overlaps = [slow_iou(box, prior) for box in boxes]
        best = max(range(len(boxes)), key=lambda number: overlaps[number])
        taken.append(best if overlaps[best] >= 0.5 else None)
    for number, box in enumerate(boxes):
        overlaps = [slow_iou(box, prior) for prior in to_corners(priors)]
        taken[max(range(len(priors)), key=lambda prior: overlaps[prior])] = number
    targets, regressions = [], []
    for number, (cx, cy, w, h) in zip(taken, priors.astype(float), strict=True):
        if number is None:
            targets.append(0)
            regressions.append([0.0] * 4)
            continue
        x1, y1, x2, y2 = boxes[number].astype(float)
        targets.append(labels[number])
        offsets = [((x1 + x2) / 2 - cx) / w / 0.1, ((y1 + y2) / 2 - cy) / h / 0.1]
        regressions.append([*offsets, math.log((x2 - x1) / w) / 0.2, math.log((y2 - y1) / h) / 0.2])
    return targets, regressions


@st.composite
def boxes(draw: st.DrawFn) -> tuple[list[float], ...]:
    grid = st.integers(0, 24)  # a coarse grid has ties and boxes that touch
    result = []
    for _ in range(draw(st.integers(1, 5))):
        (x1, x2), (y1, y2) = (sorted(draw(st.lists(grid, min_size=2, max_size=2, unique=True))) for _ in range(2))
        result.append([x1 / 24, y1 / 24, x2 / 24, y2 / 24])
    return tuple(result)


@given(boxes(), st.data())
@settings(max_examples=6, deadline=None)
def test_matching_follows_the_rules(corners: tuple[list[float], ...], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(1, 20), min_size=len(corners), max_size=len(corners)))
    targets = match(corners, labels, SMALL)
    expected_labels, expected_regressions = slow_match(np.array(corners), labels, SMALL)
    np.testing.assert_array_equal(targets.labels, expected_labels)
    np.testing.assert_allclose(targets.regressions, expected_regressions, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_targets_are_the_recorded_ones(form: str) -> None:
    facts, expected = recorded("loss")[form], arrays("loss")
    pictures = list(zip(*ground_truth(form), strict=True))
    targets = [match(*picture, form) for picture in pictures]
    np.testing.assert_array_equal([target.labels for target in targets], expected[f"{form}_labels"])
    assert [int((target.labels > 0).sum()) for target in targets] == facts["positives"]
    rows = tuple(expected[f"{form}_positive_index"].T)
    regressions = np.stack([target.regressions for target in targets])
    np.testing.assert_allclose(regressions[rows], expected[f"{form}_positive_targets"], rtol=1e-4, atol=1e-5)
    ious = [ious_with_priors(np.float32(corners), FORMS[form]) for corners, _ in pictures]
    assert [picture.argmax(axis=1).tolist() for picture in ious] == facts["best_prior_per_box"]
    np.testing.assert_allclose(np.concatenate(ious).max(axis=1), np.concatenate(facts["best_iou_per_box"]), atol=1e-6)


def test_many_boxes_are_matched_as_few_are() -> None:
    """More boxes than are compared at once."""
    random = np.random.default_rng(3)
    corners = random.random((300, 4), np.float32)
    corners = np.concatenate([corners[:, :2] * 0.9, corners[:, :2] * 0.9 + 0.02 + corners[:, 2:] * 0.08], axis=1)
    labels = random.integers(1, 21, 300)
    targets, ious = match(corners, labels, "voc"), ious_with_priors(corners, FORMS["voc"])
    expected = np.where(ious.max(axis=0) >= 0.5, labels[ious.argmax(axis=0)], 0)
    for number, prior in enumerate(ious.argmax(axis=1)):
        expected[prior] = labels[number]
    np.testing.assert_array_equal(targets.labels, expected)


DEGENERATE = [[0.5, 0.1, 0.2, 0.4], [0.1, 0.6, 0.3, 0.5], [0.3, 0.3, 0.3, 0.9], [0.2, 0.2, 0.2, 0.2]]


@pytest.mark.parametrize("corners", [[], *([box] for box in DEGENERATE), DEGENERATE])
def test_a_picture_without_sound_boxes_is_background(corners: list[list[float]]) -> None:
    targets = match(corners, [1] * len(corners), "voc")
    assert not targets.labels.any()
    assert not targets.regressions.any()


def test_degenerate_boxes_leave_the_others_their_priors() -> None:
    sound = [0.1, 0.15, 0.45, 0.6]
    mixed = match([*DEGENERATE, sound], [1, 2, 3, 4, 9], "voc")
    alone = match([sound], [9], "voc")
    np.testing.assert_array_equal(mixed.labels, alone.labels)
    np.testing.assert_array_equal(mixed.regressions, alone.regressions)


@pytest.mark.parametrize(
    ("corners", "labels", "words"),
    [
        ([[0, 0, np.nan, 1]], [1], "finite"),
        ([[0, 0, np.inf, 1]], [1], "finite"),
        ([[0, 0, 1, 1]], [0], "from 1"),
        ([[0, 0, 1, 1]], [1.0], "whole numbers"),
        ([[0, 0, 1, 1]], [1, 2], r"expected \[K, 4\]"),
        ([0, 0, 1, 1], [1], r"expected \[K, 4\]"),
    ],
)
def test_what_cannot_be_matched_is_refused(corners: list[object], labels: list[object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        match(corners, labels, "voc")  # type: ignore[arg-type]


sizes = st.floats(1 / 64, 1, width=32)
places = st.floats(-0.5, 1.5, width=32)


@given(st.tuples(places, places, sizes, sizes), st.tuples(places, places, sizes, sizes))
def test_regressions_turn_the_prior_into_the_box(box: tuple[float, ...], prior: tuple[float, ...]) -> None:
    corners = to_corners(np.array([box], np.float32))
    decoded = decode_boxes(encode(corners, np.array([prior], np.float32)), np.array([prior], np.float32))
    np.testing.assert_allclose(decoded, corners, rtol=1e-4, atol=1e-5)


def test_regressions_by_hand() -> None:
    """A box twice as wide as its prior, and moved by a half of its side to the right."""
    prior = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    regressions = encode(np.array([[0.4, 0.3, 0.8, 0.7]], np.float32), prior)
    np.testing.assert_allclose(regressions, [[0.5 / 0.1, 0, math.log(2) / 0.2, 0]], atol=1e-5)
