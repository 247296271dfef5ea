"""What `predict` prints of answers, apart from how they are computed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mobilenext.cli import main
from mobilenext.evaluation import prediction

DETECTIONS = [
    {"box": [1.5, 2.0, 30.25, 40.0], "label": 1, "name": "a, b", "score": 0.9},
    {"box": [0.0, 0.0, 9.0, 9.0], "label": 2, "name": None, "score": 0.25},
]
ROWS: list[dict[str, Any]] = [
    {"path": "one.jpg", "task": "detection", "file": "one.jpg", "width": 50, "height": 40, "detections": DETECTIONS},
    {"path": "two.jpg", "task": "detection", "file": "two.jpg", "width": 50, "height": 40, "detections": []},
    {"path": "three.jpg", "error": "three.jpg: not an image"},
]
CLASSES = [{"path": "a.png", "classes": [3, 1], "scores": [0.75, 0.2], "labels": ["cat", "dog"]}]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(rows: list[dict[str, Any]], *flags: str) -> tuple[int, str, str]:
        monkeypatch.setattr(prediction, "predict", lambda *_, **__: rows)
        code = main(["predict", "images", *flags])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def test_a_table_of_boxes(printed: Any) -> None:
    """A picture without boxes has a row with its name only; one that cannot be read is an error."""
    code, out, err = printed(ROWS, "--csv")
    head, *rows = csv.reader(io.StringIO(out))
    assert head == ["file", "x1", "y1", "x2", "y2", "label", "name", "score"]
    assert rows == [
        ["one.jpg", "1.5", "2.0", "30.25", "40.0", "1", "a, b", "0.9"],
        ["one.jpg", "0.0", "0.0", "9.0", "9.0", "2", "", "0.25"],
        ["two.jpg", "", "", "", "", "", "", ""],
    ]
    assert code == 3
    assert "three.jpg: not an image" in err


def test_a_table_of_classes(printed: Any) -> None:
    code, out, _ = printed(CLASSES, "--csv")
    assert out.splitlines() == ["file,rank,class,name,score", "a.png,1,3,cat,0.75", "a.png,2,1,dog,0.2"]
    assert code == 0


def test_without_images_it_is_the_sample_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(prediction, "predict", lambda images, **_: calls.append(images) or [])
    assert main(["predict", "--model", "ssdlite320_mobilenext_x0_35.bccd"]) == 0
    ((sample,),) = calls
    assert sample.name == "blood_cells.jpg"
    assert main(["predict", "--model", "mobilenext_x0_35.digits"]) == 2
    assert len(calls) == 1


def test_json_is_what_was_answered(printed: Any) -> None:
    assert json.loads(printed(ROWS, "--json")[1]) == ROWS


def test_one_form_at_a_time(printed: Any) -> None:
    code, out, err = printed(CLASSES, "--csv", "--json")
    assert (code, out) == (2, "")
    assert "not allowed with" in err


def test_where_the_pictures_are_is_said(printed: Any, tmp_path: Path) -> None:
    assert f"written: 1 pictures, {tmp_path}" in printed(CLASSES, "-o", str(tmp_path))[2]
