"""A detector on the report page, in the terminal and on pictures, from evaluations small enough to count by hand."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection_folders import NAMES, a_row, write_detections
from mobilenext.detection.detected import Detected
from mobilenext.detection.presentation import PRESENTATION, answer_rows, draw, measured
from mobilenext.errors import DataError
from mobilenext.machine.packages import installed
from mobilenext.report.page import write_report
from mobilenext.runs.evaluation import read_evaluation
from mobilenext.runs.tables import result_lines

pytestmark = pytest.mark.skipif(not installed("pycocotools"), reason="pycocotools is not installed (extra detection)")
needs_libraries = pytest.mark.skipif(
    not (installed("jinja2") and installed("vl_convert")), reason="jinja2 or vl-convert is not installed (extra report)"
)
LEFT, RIGHT, SMALL = (10, 10, 50, 50), (55, 10, 95, 50), (5, 60, 25, 75)


def rows() -> list[Any]:
    """Of four cells three are found, one of them late and behind a false one; the only platelet is missed."""
    return [
        a_row(0, [(LEFT, 1), (RIGHT, 1)], [(LEFT, 1, 0.9), (RIGHT, 1, 0.8)]),
        a_row(1, [(LEFT, 1), (SMALL, 2)], [((60, 60, 90, 79), 1, 0.7), (LEFT, 1, 0.6), ((0, 0, 9, 9), 2, 0.1)]),
        a_row(2, [(LEFT, 1), (RIGHT, 2)], [(RIGHT, 2, 0.95)], difficult=[1]),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_detections(tmp_path / "first", rows())


@pytest.fixture
def detected(folder: Path) -> Detected:
    evaluation = read_evaluation(folder, "first", expected="")
    assert isinstance(evaluation, Detected)
    return evaluation


def test_the_threshold_has_the_best_f1(detected: Detected) -> None:
    """Five boxes count. F1 = 2 right / (5 + detections): 2/6, 4/7, 4/8, 6/9, 6/10 from 0.9, 0.8, 0.7, 0.6, 0.1 on."""
    assert detected.threshold == 0.6
    assert detected.at_threshold(0) == (3, 1, 1)
    assert detected.at_threshold(1) == (0, 1, 0)
    assert detected.at_threshold(2) == (0, 0, 0)


def test_the_worst_pictures(detected: Detected) -> None:
    assert detected.worst(5) == [1, 2]
    second, third = detected.matches[1:]
    assert (second.missed.tolist(), second.false.tolist(), second.right.tolist()) == ([1], [0], [1])
    assert (third.missed.tolist(), third.ignored.tolist()) == ([0], [0])


def test_sizes_are_those_of_coco(detected: Detected) -> None:
    """Cells have 40 x 40 pixels, the platelets 20 x 15 and, the difficult one, 40 x 40."""
    assert detected.boxes_by_size == {"small": 1, "medium": 5, "large": 0}


def test_rows_of_another_result_are_refused(folder: Path) -> None:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    (folder / "predictions.jsonl").write_text("\n".join([*lines[:2], json.dumps(a_row(2, [], []).to_dict())]) + "\n")
    with pytest.raises(
        DataError, match=r"3 images, 4 boxes, 5 detections, 3 of them right, 0 unreadable; expected 3, 5"
    ):
        read_evaluation(folder, "first", expected="")


def test_lines_in_the_terminal(folder: Path) -> None:
    text = "\n".join(result_lines(json.loads((folder / "result.json").read_text())))
    assert "| mAP (VOC, 11 points) " in text
    assert "5 boxes in 3 images" in text
    assert re.search(r"\| cell +\| 6\d\.\d\d % .*\| 4 +\| 3 ", text)
    assert re.search(r"\| platelet +\| 0\.00 % .*\| 1 +\| 0 ", text)
    assert "nothing" not in text  # a class without boxes and detections


def test_the_form_decides_which_score_comes_first(tmp_path: Path) -> None:
    result = json.loads((write_detections(tmp_path / "coco", rows(), form="coco") / "result.json").read_text())
    columns = PRESENTATION.columns_of_result
    assert columns is not None
    assert next(iter(columns(result))) == "AP (COCO)"
    assert measured(result).value == pytest.approx(100 * result["AP"], abs=1e-3)
    assert measured({"map_percent": None, "objects": 0}).text == "-"


def text_of(page: Path) -> str:
    content = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", content))


@needs_libraries
def test_the_page(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for place in range(3):
        Image.new("RGB", (100, 80), (90, 90, 90)).save(tmp_path / "images" / f"{place}.png")
    other = write_detections(tmp_path / "other", [a_row(0, [(LEFT, 1)], [(LEFT, 1, 0.9)]), *rows()[1:]], flip=True)
    write_report([folder], tmp_path / "one.html", tmp_path)
    text = text_of(tmp_path / "one.html")
    for expected in (
        "Best F1", "from a score of 0.600 on: 3 found, 2 missed, 1 false", "AP at any overlap", "AP by size",
        "Precision and recall", "1 missed, 1 false", "No box was found of 1 of 3 classes: platelet", "and 1 difficult",
    ):  # fmt: skip
        assert expected in text
    assert (tmp_path / "one.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2
    for foreign in ("top-1", "Confusion", "ImageNet"):
        assert foreign not in text
    write_report([folder, other], tmp_path / "two.html")
    text = text_of(tmp_path / "two.html")
    for expected in (
        "Scores over all classes",
        "last minus first, points",
        "Precision and recall: cell",
        "--data FOLDER",
    ):
        assert expected in text
    assert "the second time mirrored" in text


ANSWER = {"detections": [{"box": [10.0, 10.0, 50.0, 50.0], "label": 2, "name": None, "score": 0.5}]}


def test_an_answer_is_drawn_on_its_picture() -> None:
    image = Image.new("RGB", (400, 300))
    assert draw(image, {"detections": []}).tobytes() == image.tobytes()
    drawn = np.asarray(draw(image, ANSWER))
    assert drawn[49].any()
    assert not drawn[60:].any()
    assert draw(Image.new("RGB", (100, 50)), ANSWER).size == (400, 200)  # enlarged, so that the score can be read


def test_an_answer_as_rows() -> None:
    assert answer_rows(ANSWER) == [[10.0, 10.0, 50.0, 50.0, 2, "", 0.5]]
    assert len(PRESENTATION.answer_heads) == 7
    assert len(NAMES) == 3
