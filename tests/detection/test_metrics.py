"""Average precision: equal to recorded values, to pycocotools itself, and to a slow VOC evaluator written down here."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from golden import GOLDENS
from mobilenext.detection import average_precision, coco_precision
from mobilenext.detection.metrics import NUMBERS
from mobilenext.errors import DataError, MissingDependency
from mobilenext.machine import packages

COCO_NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads((GOLDENS / "detection" / "map_reference.json").read_text())


def ground_truth_of(recorded: dict[str, Any], **fields: Change) -> dict[str, Any]:
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "difficult": difficult}
        for number, (image, category, *box, area, difficult) in enumerate(recorded["truth"])
    ]
    return {
        "images": [{"id": number + 1} for number in range(recorded["images"])],
        "categories": [{"id": number, "name": name} for number, name in enumerate(recorded["classes"])],
        "annotations": [row | {name: change(row) for name, change in fields.items()} for row in annotations],
    }


def results_of(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, *box, score in recorded["detections"]
    ]


def test_recorded_metrics(recorded: dict[str, Any]) -> None:
    numbers = average_precision(ground_truth_of(recorded), results_of(recorded))
    assert list(numbers) == [*COCO_NAMES, "voc_AP_11_point", "voc_AP_area", "per_class"]
    summary, voc = recorded["coco"]["summary"], recorded["voc_difficult_ignored"]
    assert (round(numbers["AP"], 4), round(numbers["voc_AP_11_point"], 4)) == (0.3470, 0.6075)
    assert {name: numbers[name] for name in COCO_NAMES} == pytest.approx(summary, abs=1e-11)
    assert numbers["voc_AP_11_point"] == pytest.approx(voc["mAP_11_point"], abs=1e-12)
    assert numbers["voc_AP_area"] == pytest.approx(voc["mAP_area"], abs=1e-12)
    for name, of_class in numbers["per_class"].items():
        expected = recorded["coco"]["per_class"][name]
        assert {key: of_class[key] for key in expected} == pytest.approx(expected, abs=1e-11)
        assert [of_class["voc_AP_11_point"], of_class["voc_AP_area"]] == pytest.approx(
            voc["per_class"][name], abs=1e-12
        )
    assert list(numbers["per_class"]) == recorded["classes"]


def test_difficult_boxes_and_crowds(recorded: dict[str, Any]) -> None:
    """VOC numbers ignore both, COCO numbers only crowds."""
    results = results_of(recorded)
    counted = average_precision(ground_truth_of(recorded, difficult=lambda row: 0), results)
    crowd = average_precision(ground_truth_of(recorded, iscrowd=lambda row: row["difficult"]), results)
    voc = recorded["voc_difficult_counted"]
    expected = pytest.approx([voc["mAP_11_point"], voc["mAP_area"]], abs=1e-12)
    assert [counted["voc_AP_11_point"], counted["voc_AP_area"]] == expected
    assert {name: counted[name] for name in COCO_NAMES} == pytest.approx(recorded["coco"]["summary"], abs=1e-11)
    assert {name: crowd[name] for name in COCO_NAMES} == pytest.approx(recorded["coco_difficult_as_iscrowd"], abs=1e-11)
    assert crowd["voc_AP_11_point"] == pytest.approx(recorded["voc_difficult_ignored"]["mAP_11_point"], abs=1e-12)


# Small worlds with many ties: few scores, few sides, few classes; more than one detection of the same box.
SCORES = st.sampled_from([0.1, 0.5, 0.5000001, 0.9])
SIDES = st.sampled_from([0.0, 9.0, 10.0, 20.0, 40.5, 120.0])
BOXES = st.tuples(st.sampled_from([0.0, 5.0, 10.5]), st.sampled_from([0.0, 4.0]), SIDES, SIDES).map(list)
IMAGES, CLASSES = st.sampled_from([3, 7, 40]), st.sampled_from([1, 18, 90])
TRUTH = st.fixed_dictionaries(
    {"image_id": IMAGES, "category_id": CLASSES, "bbox": BOXES,
     "iscrowd": st.sampled_from([0, 0, 1]), "difficult": st.sampled_from([0, 0, 1])}
)  # fmt: skip
RESULT = st.fixed_dictionaries({"image_id": IMAGES, "category_id": CLASSES, "bbox": BOXES, "score": SCORES})


def world(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [{"id": number} for number in (40, 3, 7)],  # not in order
        "categories": [{"id": 90, "name": "c"}, {"id": 1, "name": "a"}, {"id": 18, "name": "b"}],
        "annotations": [
            {"id": number, "area": row["bbox"][2] * row["bbox"][3], **row} for number, row in enumerate(annotations, 1)
        ],
    }


def library(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The numbers that pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(ground_truth))
        truth.createIndex()
        if results:
            found = truth.loadRes(json.loads(json.dumps(results)))
        else:
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats)


def slow_voc(ground_truth: dict[str, Any], results: list[dict[str, Any]], category: int) -> tuple[Any, Any]:
    """The rule of the VOC devkit for one class, step by step."""
    boxes = [row for row in ground_truth["annotations"] if row["category_id"] == category]
    positives = sum(not (row["difficult"] or row["iscrowd"]) for row in boxes)
    ordered = sorted((row for row in results if row["category_id"] == category), key=lambda row: row["image_id"])
    ordered.sort(key=lambda row: -row["score"])
    taken: set[int] = set()
    right = false = 0
    recall, precision = [], []
    for row in ordered:
        best, best_iou = None, -1.0
        x, y, w, h = row["bbox"]
        for box in boxes:
            if box["image_id"] != row["image_id"]:
                continue
            u, v, p, q = box["bbox"]
            width, height = min(x + w, u + p) - max(x, u) + 1, min(y + h, v + q) - max(y, v) + 1
            shared = max(0.0, width) * max(0.0, height)
            iou = shared / ((w + 1) * (h + 1) + (p + 1) * (q + 1) - shared)
            if iou > best_iou:
                best, best_iou = box, iou
        if best is None or best_iou < 0.5:
            false += 1
        elif best["difficult"] or best["iscrowd"]:
            continue
        elif best["id"] in taken:
            false += 1
        else:
            taken.add(best["id"])
            right += 1
        recall.append(right / positives if positives else 0.0)
        precision.append(right / (right + false))
    if not positives:
        return None, None
    eleven = [max([p for p, r in zip(precision, recall, strict=True) if r >= t], default=0.0)
              for t in np.arange(0, 1.1, 0.1)]  # fmt: skip
    area, before = 0.0, 0.0
    for place, r in enumerate(recall):
        area += (r - before) * max(precision[place:])
        before = r
    return sum(eleven) / 11, area


@settings(max_examples=60, deadline=None)
@given(st.lists(TRUTH, max_size=8), st.lists(RESULT, max_size=14))
def test_any_boxes(annotations: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
    ground_truth = world(annotations)
    numbers = average_precision(ground_truth, results)
    expected = library(ground_truth, results)
    assert [-1 if numbers[name] is None else numbers[name] for name in COCO_NAMES] == pytest.approx(expected, abs=1e-12)
    of_classes = [slow_voc(ground_truth, results, category) for category in (1, 18, 90)]
    for name, pair in zip("abc", of_classes, strict=True):
        row = numbers["per_class"][name]
        assert (row["voc_AP_11_point"], row["voc_AP_area"]) == pytest.approx(pair, abs=1e-12)
    for place, name in enumerate(("voc_AP_11_point", "voc_AP_area")):
        values = [pair[place] for pair in of_classes if pair[place] is not None]
        assert numbers[name] == (pytest.approx(sum(values) / len(values), abs=1e-12) if values else None)


def test_more_than_100_in_a_picture_and_ids_from_0() -> None:
    """COCO counts the best 100 of a class; an annotation with the id 0, which pycocotools loses, is one like others."""
    results = [{"image_id": 3, "category_id": 1, "bbox": [500, 500, 9, 9], "score": 0.9 - n / 1e4} for n in range(100)]
    results.append({"image_id": 3, "category_id": 1, "bbox": [0, 0, 40, 40], "score": 0.5})
    box = {"id": 0, "image_id": 3, "category_id": 1, "bbox": [0, 0, 40, 40]}
    ground_truth = world([]) | {"annotations": [box]}
    numbers = average_precision(ground_truth, results)
    assert (numbers["AP"], numbers["voc_AP_area"]) == (0.0, pytest.approx(1 / 101))
    assert average_precision(ground_truth, results[-1:])["AP"] == pytest.approx(1)
    assert average_precision(ground_truth, results[-1:])["APs"] is None  # a box of 40 x 40 is none of the small ones


def test_nothing_at_all() -> None:
    empty = {"images": [], "annotations": [], "categories": []}
    assert average_precision(empty, []) == dict.fromkeys(NUMBERS) | {"per_class": {}}
    false = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    assert set(average_precision(world([]), false)["per_class"]["a"].values()) == {None}


def test_it_prints_and_logs_nothing(
    recorded: dict[str, Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        average_precision(ground_truth_of(recorded), results_of(recorded))
    assert (capfd.readouterr(), caplog.messages) == (("", ""), [])


GOOD = {"image_id": 3, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, "result 1 has the image_id 4, which is not among the 3 of the ground truth"),
        ({"image_id": "3"}, "result 1 has the image_id '3'"),
        ({"category_id": 2}, "result 1 has the category_id 2, which is not among the 3"),
        ({"category_id": True}, "result 1 has the category_id True"),
        ({"bbox": [1, 2, float("nan"), 4]}, r"result 1 has the bbox \[1, 2, nan, 4\]; expected x, y, width and height"),
        ({"bbox": [1, 2, -3, 4]}, r"result 1 has the bbox \[1, 2, -3, 4\]"),
        ({"bbox": [1, 2, 1e200, 1e200]}, r"result 1 has the bbox \[1, 2, 1e\+200, 1e\+200\]; .* up to 1e\+09 pixels"),
        ({"bbox": [-2e9, 2, 3, 4]}, r"result 1 has the bbox \[-2000000000.0, 2, 3, 4\]"),
        ({"bbox": [1, 2, 3]}, r"result 1 has the bbox \[1, 2, 3\]"),
        ({"bbox": None}, "result 1 has the bbox None"),
        ({"score": float("inf")}, "result 1 has the score inf; expected a finite number"),
        ({"score": None}, "result 1 has the score None"),
    ],
)
def test_results_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        average_precision(world([]), [GOOD, GOOD | change])


@pytest.mark.parametrize(
    ("ground_truth", "results", "message"),
    [
        ([GOOD], [], "the ground truth is a list, as results of a detector are; expected a COCO dictionary"),
        ({"images": []}, [], r"the ground truth is {'images': \[\]}; expected a COCO dictionary with the lists images"),
        (world([]), {"annotations": []}, r"the detections are {'annotations': \[\]}; expected a list of COCO results"),
        (world([]), "results.json", "the detections are 'results.json'; expected a list"),
        (world([]), [7], "result 0 is 7; expected a record"),
        (world([GOOD | {"image_id": 5}]), [], "annotation 0 has the image_id 5"),
        (world([]) | {"images": [{"id": 3}, {"id": 3}]}, [], "two entries of the ground truth have the image id 3"),
        (world([]) | {"images": [{}]}, [], "image 0 has the id None"),
    ],
)
def test_what_is_no_ground_truth_and_no_list(ground_truth: Any, results: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        average_precision(ground_truth, results)


def test_equal_names_and_arrays() -> None:
    ground_truth = world([GOOD]) | {"categories": [{"id": 1, "name": "cell"}, {"id": 0, "name": "cell"}, {"id": 5}]}
    result = GOOD | {"bbox": np.array([1, 2, 3, 4], np.float32), "score": np.float32(0.5), "image_id": np.int64(3)}
    numbers = average_precision(ground_truth, (result,))
    assert list(numbers["per_class"]) == ["cell (0)", "cell (1)", "5"]
    assert (numbers["AP"], numbers["per_class"]["cell (0)"]["AP"]) == (pytest.approx(1), None)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: False)
    with pytest.raises(MissingDependency, match=r"needs faster_coco_eval, which is not .*'mobilenext\[detection\]'"):
        coco_precision.require_library()
