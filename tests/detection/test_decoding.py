from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_recordings import arrays, decode_outputs, recorded
from mobilenext.detection import decoding
from mobilenext.detection.decoding import Detections, decode, suppress
from mobilenext.detection.priors import prior_boxes
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models.detector_form import FORMS, MOST_DETECTIONS, Form


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


def slow_iou(box: list[float], other: list[float]) -> float:
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - width * height
    return width * height / union if union else 0.0


def slow_suppression(boxes: list[list[float]], labels: list[int], threshold: float, limit: int) -> list[int]:
    """Class by class, the best box first; then the best of all classes."""
    kept: list[int] = []
    for label in set(labels):
        of_class: list[int] = []
        for number in (number for number, other in enumerate(labels) if other == label):
            if all(slow_iou(boxes[number], boxes[better]) <= threshold for better in of_class):
                of_class.append(number)
        kept += of_class
    return sorted(kept)[:limit]


@given(
    st.integers(0, 2**32), st.integers(0, 500), st.sampled_from([1, 2, 20]), st.sampled_from([0.0, 0.3, 0.45, 1.0]),
    st.sampled_from([1, 7, 100, 1000]), st.sampled_from([6, 100]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_suppression_follows_the_rules(
    seed: int, count: int, classes: int, threshold: float, limit: int, grid: int
) -> None:
    """On a coarse grid many boxes are equal, without area or inverted; 500 are more than are compared at once."""
    random = np.random.default_rng(seed)
    corners, labels = random.integers(0, grid, (count, 4)), random.integers(1, classes + 1, count)
    sides = random.integers(0, grid // 2 + 1, (count, 2))
    corners[:, 2:] = corners[:, :2] + sides
    order = np.arange(count)
    kept = suppress(corners.astype(np.float32), order, labels, threshold, limit)
    assert kept.tolist() == slow_suppression(corners.tolist(), labels.tolist(), threshold, limit)


def slow_decode(scores: np.ndarray, regressions: np.ndarray, form: Form) -> list[tuple[list[float], int, float]]:
    """One picture, by the rules in plain loops and float64: boxes in pixels, labels and scores."""
    candidates = []
    for number, (row, offsets, prior) in enumerate(
        zip(scores.tolist(), regressions.tolist(), prior_boxes(form).tolist(), strict=True)
    ):
        cx, cy = (prior[axis] + offsets[axis] * 0.1 * prior[axis + 2] for axis in (0, 1))
        w, h = (prior[axis] * math.exp(offsets[axis] * 0.2) for axis in (2, 3))
        box = [side * form.image_size for side in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]
        if form.loss == "focal":
            values = [1 / (1 + math.exp(-logit)) for logit in row[:-1]]
        else:
            exponentials = [math.exp(logit) for logit in row]
            values = [value / sum(exponentials) for value in exponentials[1:]]
        candidates += [
            (-value, number, label, box) for label, value in enumerate(values, 1) if value > form.score_threshold
        ]
    candidates.sort()
    boxes, labels = [candidate[3] for candidate in candidates], [candidate[2] for candidate in candidates]
    kept = slow_suppression(boxes, labels, form.iou_threshold, form.limit)
    return [(boxes[number], labels[number], -candidates[number][0]) for number in kept]


@pytest.mark.parametrize(("name", "image_size", "classes"), [("voc", 224, 3), ("coco", 224, 2), ("voc", 256, 1)])
def test_decoding_follows_the_rules_for_other_inputs_and_classes(name: str, image_size: int, classes: int) -> None:
    form = FORMS[name].replace(image_size=image_size, score_threshold=0.7, limit=50)
    random = np.random.default_rng(image_size + classes)
    scores = random.normal(0, 1.5, (2, form.priors, classes + 1)).astype(np.float32)
    regressions = random.normal(0, 1, (2, form.priors, 4)).astype(np.float32)
    for number, picture in enumerate(decode(scores, regressions, form=form)):
        expected = slow_decode(scores[number], regressions[number], form)
        assert 5 < len(picture) == len(expected) <= 50
        assert picture.labels.tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(picture.boxes, [box for box, _, _ in expected], atol=1e-3)
        np.testing.assert_allclose(picture.scores, [score for _, _, score in expected], atol=1e-6)


def one(scores: np.ndarray, form: str = "voc", **options: float) -> Detections:
    (picture,) = decode(scores[None], np.zeros((1, *scores.shape[:1], 4)), form=form, **options)
    return picture


def test_of_equal_scores_the_lower_prior_comes_first() -> None:
    scores = np.zeros((3234, 21), np.float32)
    scores[:, 0] = 50
    numbers = [3000, 40 * 6, 2400, 3]  # far from each other
    scores[numbers, 5] = 60
    expected = prior_boxes("voc")[sorted(numbers)]
    picture = one(scores)
    assert picture.labels.tolist() == [5] * 4
    np.testing.assert_allclose((picture.boxes[:, :2] + picture.boxes[:, 2:]) / 2, expected[:, :2] * 320, atol=1e-3)


def test_a_prior_may_have_two_classes() -> None:
    scores = np.zeros((3234, 21), np.float32)
    scores[:, 0] = 50
    scores[7, [3, 9]] = 60, 59
    picture = one(scores)
    assert picture.labels.tolist() == [3, 9]
    np.testing.assert_array_equal(picture.boxes[0], picture.boxes[1])


def test_the_last_column_of_coco_is_no_class() -> None:
    scores = np.full((3232, 81), -20, np.float32)
    scores[5, 80] = 9
    assert len(one(scores, "coco")) == 0
    scores[6, 79] = 9
    assert one(scores, "coco").labels.tolist() == [80]


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_large_logits_are_probabilities_too(form: str) -> None:
    scores = np.full((FORMS[form].priors, 4), -1e4, np.float32)
    scores[:, 0] = 1e4 if form == "voc" else -1e4
    scores[9] = [-3e4, 3e4, -1e4, -1e4]
    picture = one(scores, form)
    assert picture.labels.tolist() == [1 if form == "voc" else 2]
    assert picture.scores.tolist() == [1]


def test_thresholds_and_limit_are_options() -> None:
    scores, regressions = decode_outputs("voc")
    few = decode(scores, regressions, form="voc", score_threshold=0.5, limit=3)
    assert [len(picture) for picture in few] == [3, 3, 0]
    (loose, *_), (strict, *_) = (
        decode(scores[:1], regressions[:1], form="voc", iou_threshold=threshold, limit=10_000)
        for threshold in (1.0, 0.0)
    )
    assert len(loose) == recorded("decode")["voc"]["images"][0]["candidates"]
    assert len(strict) < recorded("decode")["voc"]["images"][0]["after_nms"]
    (all_kept,) = decode(scores[:1], regressions[:1], form="voc", limit=10_000)
    assert len(all_kept) == recorded("decode")["voc"]["images"][0]["after_nms"]


def test_options_may_be_numbers_of_numpy() -> None:
    scores, regressions = decode_outputs("voc")
    of_numpy = {"score_threshold": np.float32(0.5), "iou_threshold": np.float64(0.45), "limit": np.int64(5)}
    for one, other in zip(
        decode(scores, regressions, form="voc", **of_numpy),
        decode(scores, regressions, form=FORMS["voc"].to_dict(), score_threshold=0.5, limit=5),
        strict=True,
    ):
        np.testing.assert_array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize(("name", "equal"), [("voc", True), ("voc", False), ("coco", False)])
def test_candidates_are_compared_within_their_class_only(
    name: str, equal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the lowest threshold and the largest limit too: no more comparisons than priors for each box that is kept."""
    compared = [0]
    pairs_of_one_class = decoding._pairs_of_one_class

    def counted(*labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = pairs_of_one_class(*labels)
        compared[0] += len(pairs[0])
        return pairs

    monkeypatch.setattr(decoding, "_pairs_of_one_class", counted)
    form, random = FORMS[name].replace(image_size=224), np.random.default_rng(0)
    scores = random.normal(0, 0 if equal else 1, (1, form.priors, 21))
    (picture,) = decode(
        scores, random.normal(0, 1, (1, form.priors, 4)), form=form, score_threshold=0, limit=MOST_DETECTIONS
    )
    assert len(picture) > 5000
    within_blocks = form.priors * 20 * 128
    assert compared[0] <= form.priors * len(picture) + within_blocks


def test_boxes_are_not_clipped() -> None:
    scores, regressions = np.zeros((1, 3234, 21), np.float32), np.zeros((1, 3234, 4), np.float32)
    scores[..., 0] = 50
    scores[0, 0, 1] = 60
    regressions[0, 0, :2] = -30
    ((x1, y1, _, _),) = decode(scores, regressions, form="voc")[0].boxes
    assert max(x1, y1) < -100


@pytest.mark.parametrize(("scores", "regressions"), [(np.nan, 0), (np.inf, 0), (0, np.nan), (0, -np.inf), (0, 1e6)])
def test_outputs_that_are_no_numbers_are_refused(scores: float, regressions: float) -> None:
    logits, offsets = np.zeros((2, 3234, 3), np.float32), np.zeros((2, 3234, 4), np.float32)
    logits[1, 7, 2], offsets[1, :, 3] = scores, regressions
    with pytest.raises(WeightsError, match="the weights are damaged"):
        decode(logits, offsets, form="voc")


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((1, 3232, 21), (1, 3232, 4)), {}, "the form has 3234 priors"),
        (((1, 3234, 21), (2, 3234, 4)), {}, r"regressions \[2, 3234, 4\]"),
        (((3234, 21), (3234, 4)), {}, r"expected \[N, 3234"),
        (((1, 3234, 1), (1, 3234, 4)), {}, r"classes \+ 1"),
        (((1, 3234, 21), (1, 3234, 4)), {"limit": 0}, "limit of the form is 0"),
        (
            ((1, 3234, 21), (1, 3234, 4)),
            {"limit": 10_001},
            "limit of the form is 10001; expected a whole number from 1 to 10000",
        ),
        (((1, 3234, 21), (1, 3234, 4)), {"limit": np.True_}, "limit of the form is"),
        (((1, 3234, 21), (1, 3234, 4)), {"iou_threshold": 1.5}, "iou_threshold of the form is 1.5"),
    ],
)
def test_what_cannot_be_decoded_is_refused(shapes: tuple[tuple[int, ...], ...], options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        decode(*map(np.zeros, shapes), form="voc", **options)


def test_a_batch_of_nothing_has_no_pictures() -> None:
    assert decode(np.zeros((0, 3234, 21)), np.zeros((0, 3234, 4)), form="voc") == []
