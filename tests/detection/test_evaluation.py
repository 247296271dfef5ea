"""Rows, counts, results and answers of a detector, from raw outputs that put known boxes into known places."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mobilenext.data import Preprocessing
from mobilenext.data.boxes import Box, BoxedDataset, BoxedImage
from mobilenext.detection import average_precision
from mobilenext.detection.answers import OPTIONS, answer, answer_lines
from mobilenext.detection.evaluation import EVALUATION
from mobilenext.detection.picture_matches import match_picture
from mobilenext.errors import DatasetError, UsageError, WeightsError
from mobilenext.json_files import Unfit
from mobilenext.models.detector_form import FORMS
from mobilenext.task import Evaluated, Task

SQUASH = Preprocessing(image_size=320, crop_pct=1.0, fit="squash")
CLASSES = ("cat", "dog")


def network(form: str = "voc", **fields: Any) -> Any:
    record = {"architecture": {"form": FORMS[form].to_dict()}, "num_classes": 2, "labels": CLASSES}
    return SimpleNamespace(**{**record, "preprocessing": SQUASH, **fields})


def outputs_with(pictures: list[list[tuple[int, int, float]]], form: str = "voc") -> tuple[Any, Any]:
    """Raw outputs in which (prior, label, score) are the only candidates; every regression is zero."""
    priors = FORMS[form].priors
    scores = np.full((len(pictures), priors, 3), -20, np.float32)
    if form == "voc":
        scores[..., 0] = 0
    for picture, objects in enumerate(pictures):
        for prior, label, score in objects:
            column = label if form == "voc" else label - 1
            scores[picture, prior, column] = np.log(score / (1 - score))  # against 0 of the background, by softmax
    return scores, np.zeros((len(pictures), priors, 4), np.float32)


# Prior 0 of both forms has the center 8 and the side 45 of 320 pixels, prior 2400 the center 16 and the side 90.
PRIOR_0 = [(8 - 22.5) / 320, (8 - 22.5) / 320, (8 + 22.5) / 320, (8 + 22.5) / 320]
PRIOR_2400 = [(16 - 45) / 320, (16 - 45) / 320, (16 + 45) / 320, (16 + 45) / 320]
SIZE = [640, 480, 640, 480]


def scaled(fractions: list[float], size: list[int] = SIZE) -> list[float]:
    return [fraction * side for fraction, side in zip(fractions, size, strict=True)]


def image(index: int, *boxes: Box) -> BoxedImage:
    return BoxedImage(index, f"{index}.jpg", f"{index}.jpg", 640, 480, boxes, 10 * index)


RECORDS = (
    image(0, Box((-29, -20, 61, 46), 1), Box((300, 300, 400, 400), 2, difficult=True)),
    image(1, Box((-58, -40, 122, 92), 2, area=9000.0), Box((0, 0, 640, 480), 2, crowd=True)),
    image(2),
)
OUTPUTS = outputs_with([[(0, 1, 0.9), (2400, 2, 0.6)], [(2400, 2, 0.8), (0, 1, 0.02)], []])


def facts(**options: Any) -> dict[str, Any]:
    return EVALUATION.facts(network(), options)


def test_boxes_are_in_pixels_of_the_picture() -> None:
    first, second, third = EVALUATION.rows(OUTPUTS, RECORDS, facts())
    np.testing.assert_allclose(first.boxes, [scaled(PRIOR_0), scaled(PRIOR_2400)], atol=1e-3)
    assert (first.labels.tolist(), first.scores.tolist()) == ([1, 2], [0.9, 0.6])
    assert second.scores.tolist() == [0.8, 0.02]
    assert (len(third.boxes), third.path, third.error) == (0, "2.jpg", None)


def test_options_decide_what_is_answered() -> None:
    _, second, _ = EVALUATION.rows(OUTPUTS, RECORDS, facts(score_threshold=0.5))
    assert second.scores.tolist() == [0.8]
    first, *_ = EVALUATION.rows(OUTPUTS, RECORDS, facts(max_detections=1, clip=True))
    np.testing.assert_allclose(first.boxes, [[0, 0, *scaled(PRIOR_0)[2:]]], atol=1e-3)
    # Two boxes of one class: prior 0 lies in prior 1, by 0.3 of it (45 x 45 against 73.5 x 73.5, cut at no edge).
    overlapping = outputs_with([[(0, 1, 0.9), (1, 1, 0.6)]])
    counts = [
        len(EVALUATION.rows(overlapping, RECORDS[:1], facts(iou_threshold=value))[0].scores) for value in (0.3, 0.4)
    ]
    assert counts == [1, 2]


def test_facts_say_what_was_decided() -> None:
    stored = facts(max_detections=7, flip=True)
    assert (stored["architecture"]["form"]["limit"], stored["max_detections"]) == (100, 7)
    assert (stored["score_threshold"], stored["iou_threshold"], stored["clip"], stored["flip"]) == (
        0.01, 0.45, False, True,
    )  # fmt: skip
    assert facts(score_threshold=0.01) == facts()
    assert json.loads(json.dumps(stored)) == stored
    larger = EVALUATION.facts(network(preprocessing=replace(SQUASH, image_size=512)), {})
    assert larger["architecture"]["form"]["prior_sizes"][0] == [72, 192]  # 45 and 120 of 320
    with pytest.raises(UsageError, match="fit is 'crop', but a detector sees the whole picture"):
        EVALUATION.facts(network(preprocessing=Preprocessing(image_size=320)), {})


def test_mirrored_pictures() -> None:
    """What the network sees at the left of the mirrored picture is at the right of the picture."""
    nothing = outputs_with([[], [], []])
    first, *_ = EVALUATION.rows((*nothing, *OUTPUTS), RECORDS, facts(flip=True))
    left, top, right, bottom = scaled(PRIOR_0)
    np.testing.assert_allclose(first.boxes[0], [640 - right, top, 640 - left, bottom], atol=1e-3)
    both, *_ = EVALUATION.rows((*OUTPUTS, *OUTPUTS), RECORDS, facts(flip=True))
    assert both.scores.tolist() == [0.9, 0.9, 0.6, 0.6]


def test_outputs_that_are_not_finite() -> None:
    scores, regressions = OUTPUTS
    with pytest.raises(WeightsError, match="not finite"):
        EVALUATION.rows((scores, regressions * np.nan), RECORDS, facts())


@pytest.fixture
def rows() -> list[Any]:
    return EVALUATION.rows(OUTPUTS, RECORDS, facts())


def test_rows_come_back_from_json(rows: list[Any]) -> None:
    for row, record in zip(rows, RECORDS, strict=True):
        value = json.loads(json.dumps(row.to_dict()))
        assert EVALUATION.read_row(value, row.index, facts(), record).to_dict() == row.to_dict()
    unreadable = EVALUATION.unreadable(RECORDS[0], "no image")
    value = json.loads(json.dumps(unreadable.to_dict()))
    assert EVALUATION.read_row(value, 0, {}, RECORDS[0]).error == "no image"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 1}, "index is 1; expected 0"),
        ({"path": "9.jpg"}, r"it is of '9\.jpg' with boxes of the classes \[1, 2\]; expected '0\.jpg'"),
        ({"labels": [1, 3]}, r"labels\[1\] is 3; expected a whole number from 1 to 2"),
        ({"labels": [1]}, "2 boxes, 1 labels, 2 scores; expected as many of each"),
        ({"boxes": [[1, 2, 3], [1, 2, 3, 4]]}, r"boxes\[0\] is \[1, 2, 3\]; expected a list of 4"),
        ({"scores": [0.5, 1.5]}, r"scores\[1\] is 1\.5; expected a finite number from 0 to 1"),
        ({"truth": {}}, r"truth\.boxes is missing"),
        ({"width": 0}, "width is 0"),
        ({"boxes": [[0, 0, 1, 1]] * 10_001, "labels": [1] * 10_001, "scores": [0.5] * 10_001}, "up to 10000"),
    ],
)
def test_rows_of_strangers(change: dict[str, Any], message: str, rows: list[Any]) -> None:
    with pytest.raises(Unfit, match=message):
        EVALUATION.read_row({**rows[0].to_dict(), **change}, 0, facts(), RECORDS[0])


def test_counts_of_several_processes(rows: list[Any]) -> None:
    parts = []
    for part in (rows[1:2], [rows[2], rows[0]]):
        counts = EVALUATION.counts(facts())
        for row in part:
            counts.add(row)
        parts.append(counts)
    whole = EVALUATION.counts(facts())
    for row in rows:
        whole.add(row)
    parts[0].merge([part.to_bytes() for part in parts])
    assert (parts[0].images, parts[0].correct) == (3, None)
    assert parts[0].summary() == whole.summary()  # type: ignore[attr-defined]


def test_matches_of_a_picture(rows: list[Any]) -> None:
    one = match_picture(rows[0])  # the cat; the box of the dog lies elsewhere
    assert [column.tolist() for column in (one.hits, one.missed, one.right, one.false)] == [[0], [], [0], [1]]
    two = match_picture(rows[1], score_threshold=0.9)
    assert (two.missed.tolist(), len(two.false), two.errors) == ([0], 0, 1)  # the crowd is not missed
    ignored = replace(rows[0], truth=replace(rows[0].truth, difficult=np.array([True, True])))
    third = match_picture(ignored)
    assert (third.ignored.tolist(), third.missed.tolist(), third.false.tolist()) == ([0], [], [1])
    assert match_picture(rows[2]).errors == 0


def evaluated(rows: list[Any]) -> Evaluated:
    counts = EVALUATION.counts(facts())
    for row in rows:
        counts.add(row)
    dataset = BoxedDataset(Path("pictures"), "coco", None, RECORDS, CLASSES, 3, (), category_ids=(7, 3))
    return Evaluated(SimpleNamespace(record=network()), dataset, rows, counts, ())  # type: ignore[arg-type]


def test_result(rows: list[Any]) -> None:
    result = EVALUATION.result(evaluated(rows))
    assert (result["objects"], result["difficult"], result["crowds"], result["detections"]) == (2, 1, 1, 4)
    cat, dog = result["per_class"]
    assert (cat["name"], cat["images"], cat["objects"], cat["found"], cat["detections"]) == ("cat", 1, 1, 1, 2)
    assert dog["balance"] == {"score": 0.8, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert (dog["objects"], dog["difficult"], dog["crowds"], dog["found"]) == (1, 1, 1, 1)
    # cat: found first, the false one comes later: 1. dog: found first, in picture 0 later a false one: 1.
    assert (result["map_rule"], result["map_percent"], result["voc_AP_area"]) == ("voc_AP_11_point", 100.0, 1.0)
    # The cat: 90 x 65.75 of 90 x 67.75 pixels, an overlap of 0.970; the dog: 180 x 131.5 of 180 x 135.5, of 0.970.
    # COCO counts the difficult dog, too: with one of two dogs found, 51 of 101 recalls have precision 1.
    assert result["AP_by_iou"] == [round((1 + 51 / 101) / 2, 6)] * 10
    assert (cat["AP_by_iou"], dog["AP75"]) == ([1.0] * 10, round(51 / 101, 6))
    assert len(result["AP_by_iou"]) == len(result["ious"]) == 10
    stored = json.loads(json.dumps({**result, **facts(), "unreadable": 0}))
    EVALUATION.result_fields(stored, "")
    with pytest.raises(Unfit, match="per_class has 1 rows; expected the classes 1 to 2"):
        EVALUATION.result_fields({**stored, "per_class": stored["per_class"][:1]}, "")
    with pytest.raises(Unfit, match="AP50 is 2"):
        EVALUATION.result_fields({**stored, "AP50": 2}, "")


def test_the_file_of_results_gives_the_same_numbers(rows: list[Any]) -> None:
    """COCO's own form of the same boxes, through the public function."""
    whole = evaluated(rows)
    content = EVALUATION.files(whole)["coco_results.json"]
    ground_truth = {
        "images": [{"id": record.image_id} for record in RECORDS],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {
                "image_id": record.image_id, "category_id": (7, 3)[box.label - 1], "area": box.area,
                "bbox": [*box.corners[:2], box.corners[2] - box.corners[0], box.corners[3] - box.corners[1]],
                "iscrowd": int(box.crowd), "difficult": int(box.difficult),
            }
            for record in RECORDS for box in record.boxes
        ],
    }  # fmt: skip
    numbers = average_precision(ground_truth, json.loads(content))
    result = EVALUATION.result(whole)
    per_class = numbers.pop("per_class")
    assert {name: result[name] for name in numbers} == pytest.approx(numbers, abs=1e-6)
    for row in result["per_class"]:
        expected = per_class[row["name"]]
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_coco_form_is_judged_by_ap() -> None:
    stored = EVALUATION.facts(network("coco"), {})
    counts = EVALUATION.counts(stored)
    for row in EVALUATION.rows(outputs_with([[(0, 1, 0.9)], [], []], "coco"), RECORDS, stored):
        counts.add(row)
    summary = counts.summary()  # type: ignore[attr-defined]
    assert (summary["map_rule"], summary["map_percent"]) == ("AP", pytest.approx(100 * summary["AP"], abs=1e-3))


def test_classes_that_do_not_fit() -> None:
    dataset = BoxedDataset(Path("pictures"), "coco", None, RECORDS, ("cat", "cow"), 3, ())
    with pytest.raises(DatasetError, match="cow"):
        EVALUATION.fit_data(dataset, SimpleNamespace(record=network()))  # type: ignore[arg-type]
    turned = replace(dataset, class_names=("dog", "cat"))
    fitted = EVALUATION.fit_data(turned, SimpleNamespace(record=network()))  # type: ignore[arg-type]
    assert [box.label for box in fitted.records[0].boxes] == [2, 1]
    lonely = replace(dataset, records=RECORDS[2:], total=1)
    with_empty_box = replace(lonely, left_out=("a.xml: the box (1, 1, 1, 2) of cat has no width",))
    assert EVALUATION.warnings(with_empty_box, network())[0].startswith("1 box without width or height: a.xml")
    (warning,) = EVALUATION.warnings(lonely, network())
    assert warning == "2 of 2 classes have no boxes in these images, and no part in the mean: cat, dog"


def test_answers() -> None:
    options = {"sizes": [(640, 480), (320, 320), (10, 20)], "names": ["a.jpg", "b.jpg", "c.jpg"]}
    first, second, third = answer(OUTPUTS, network(), options | {"score_threshold": 0.1})
    right, bottom = scaled(PRIOR_0)[2:]
    assert (first["file"], first["width"], first["height"]) == ("a.jpg", 640, 480)
    assert first["detections"][0] == {
        "box": pytest.approx([0, 0, right, bottom], abs=1e-3), "label": 1, "name": "cat", "score": 0.9,
    }  # fmt: skip
    assert json.loads(json.dumps(second))["detections"][0]["box"] == pytest.approx([0, 0, 61, 61], abs=1e-3)
    assert third == {"file": "c.jpg", "width": 10, "height": 20, "detections": []}
    (whole,) = answer([part[:1] for part in OUTPUTS], network(labels=None), {"sizes": [(640, 480)], "clip": False})  # type: ignore[arg-type]
    assert whole["detections"][0]["box"] == pytest.approx(scaled(PRIOR_0), abs=1e-3)
    assert (whole["detections"][0]["name"], "file" in whole) == (None, False)
    assert answer_lines(first)[0] == " 90.00 %  cat  (0.0, 0.0, 61.0, 45.8)"
    assert answer_lines(whole)[1].startswith(" 60.00 %  class 2  (-58.0, ")
    assert answer_lines(third) == ["nothing found"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, r"score_threshold is 1\.5; expected a finite number from 0 to 1"),
        ({"max_detections": 0}, "max_detections is 0; expected a whole number from 1 to 10000"),
        ({"clip": 1}, "clip is 1; expected true or false"),
        ({"topk": 5}, "topk means nothing to a network for detection; it takes score_threshold, iou_threshold"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    task = Task("detection", *([None] * 4))  # type: ignore[arg-type]
    task = replace(task, evaluation=EVALUATION)
    assert list(EVALUATION.options) == list(OPTIONS)
    with pytest.raises(UsageError, match=message):
        task.options_of(options)
