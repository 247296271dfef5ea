"""Whether two sets of predictions agree, and that nothing passes by not being compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.classification.comparable import BestClasses as Answer
from mobilenext.detection.comparable import of_columns
from mobilenext.detection.rows import DetectedImage, Truth
from mobilenext.errors import CheckFailed, DataError
from mobilenext.json_files import Unfit
from mobilenext.tipc.compare import compare_files, comparison_of, disagreements, read_answers

GOOD = Answer((3, 6, 5), (0.9, 0.05, 0.01))


def _line(name: str, answer: Answer = GOOD) -> str:
    return f"{name}\t{json.dumps([answer.classes, answer.scores])}\n"


def _files(tmp_path: Path, expected: str, found: str, log_name: str = "a_fp32.log") -> tuple[str, str]:
    (tmp_path / "r_fp32.txt").write_text(expected)
    (tmp_path / log_name).write_text(found)
    return str(tmp_path / "r_fp32.txt"), str(tmp_path / log_name)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Answer((3, 6, 5), (0.9, 0.05, 0.0105)), None),
        (Answer((3, 6, 5), (0.902, 0.05, 0.01)), "a score is off by 0.002"),
        (Answer((6, 3, 5), (0.9, 0.05, 0.01)), "a score is off by 0.85"),
        (Answer((3, 6, 4), (0.9, 0.05, 0.01)), None),  # the last place of classes that are equally likely
        (Answer((3, 4, 5), (0.9, 0.05, 0.01)), "class 6 is missing"),
        (Answer((3, 6), (0.9, 0.05)), "2 classes instead of 3"),
        (Answer((3, 6, 5), (float("nan"), 0.05, 0.01)), "a score is off by nan"),
    ],
)
def test_answers(other: Answer, message: str | None) -> None:
    problem = GOOD.disagreement(other, 1e-3)
    assert (problem is None) if message is None else (problem or "").startswith(message)


def test_a_close_call_may_fall_either_way() -> None:
    assert Answer((1, 2), (0.5001, 0.4999)).disagreement(Answer((2, 1), (0.5, 0.5)), 1e-3) is None


CORNERS = [[10.0, 20.0, 50.0, 60.0], [30.0, 5.0, 90.0, 44.0], [0.0, 0.0, 9.0, 9.0]]
BOXES = [[1, 2, 1], [0.9, 0.5, 0.01], CORNERS]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([[1, 2, 1], [0.9, 0.50009, 0.01], CORNERS], None),
        ([[2, 1, 1], [0.5, 0.9, 0.01], [CORNERS[1], CORNERS[0], CORNERS[2]]], None),  # the order says nothing
        ([[1, 2], [0.9, 0.5], CORNERS[:2]], "the box (0.0, 0.0, 9.0, 9.0) of class 1"),
        ([[1, 2, 2], [0.9, 0.5, 0.01], [*CORNERS[:2], [1, 1, 8, 8]]], None),  # the last place, of equal scores
        ([[1, 3, 1], [0.9, 0.5, 0.01], CORNERS], "the box (30.0, 5.0, 90.0, 44.0) of class 2"),
        ([[1, 2, 1], [0.9, 0.502, 0.01], CORNERS], "the box (30.0, 5.0, 90.0, 44.0) of class 2"),
        ([[1, 2, 1], [0.9, 0.5, 0.01], [CORNERS[0], [30, 5, 91, 44], CORNERS[2]]], "the box (30.0, 5.0, 90.0, 44.0)"),
        ([[1, 2, 1, 1], [0.9, 0.5, 0.3, 0.01], [*CORNERS[:2], [1, 1, 8, 8], CORNERS[2]]], "the box (1.0, 1.0, 8.0"),
        ([[], [], []], "the box (10.0, 20.0, 50.0, 60.0) of class 1"),
    ],
)
def test_boxes(other: list[list[Any]], message: str | None) -> None:
    problem = of_columns(BOXES).disagreement(of_columns(other), 1e-4)
    assert (problem is None) if message is None else (problem or "").startswith(message)


def test_boxes_of_an_answer_and_of_a_row() -> None:
    """An evaluation leaves boxes that overhang as they are, an answer cuts them: they are the same boxes."""
    comparison = comparison_of("detection")
    objects = [{"label": 2, "score": 0.5, "box": [0.0, 3.0, 100.0, 50.0], "name": "b"}]
    answer = comparison.of_answer({"width": 100, "height": 50, "detections": objects})
    truth = Truth(np.zeros((0, 4)), *(np.zeros(0, kind) for kind in (np.int64, bool, bool, float)))
    corners = np.array([[-2.0, 3.0, 103.0, 50.5]])
    row = DetectedImage(0, "a.png", 100, 50, truth, corners, np.array([2]), np.array([0.5]))
    assert answer.columns() == comparison.of_row(row).columns() == [[2], [0.5], [[0.0, 3.0, 100.0, 50.0]]]
    nothing = comparison.of_answer({"width": 100, "height": 50, "detections": []})
    assert nothing.columns() == [[], [], []]
    assert nothing.disagreement(comparison.of_columns([[], [], []]), 1e-4) is None
    with pytest.raises(Unfit, match="1 labels, 0 scores and 0 boxes"):
        comparison.of_columns([[1], [], []])


def test_a_log_of_boxes(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"a.png\t{json.dumps(BOXES)}\nb.png\t[[], [], []]\nc.png\t[[1], [0.5], [[1, 2, 3]]]\n")
    answers = read_answers(log)
    assert list(answers) == ["a.png", "b.png"]
    assert answers["a.png"].columns() == BOXES
    assert disagreements(answers, {"a.png": GOOD, "b.png": answers["b.png"]}, 1e-4) == [
        "a.png: an answer of another task"
    ]


def test_names_that_are_missing() -> None:
    assert disagreements({"a": GOOD}, {}, 1e-3) == ["a: no prediction"]
    assert disagreements({}, {"a": GOOD}, 1e-3, ["a"]) == ["a: no prediction among those expected"]
    assert disagreements({"a": GOOD}, {"a": GOOD, "b": GOOD}, 1e-3) == []


def test_a_log_has_other_lines_too(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"some note\na\tnot json\n{_line('a b/c.png')}x.png\t[[1], [2, 3]]\nx.png\t[[1.5], [0.2]]\n")
    assert read_answers(log) == {"a b/c.png": GOOD}
    with pytest.raises(DataError, match="line 1: 'some note'; expected <name>TAB"):
        read_answers(log, only=True)
    log.write_text(_line("a") * 2)
    with pytest.raises(DataError, match="line 2: a comes twice"):
        read_answers(log)


def test_files_that_agree(tmp_path: Path) -> None:
    said = compare_files(*_files(tmp_path, _line("a") + _line("b"), f"note\n{_line('b')}{_line('a')}"), 1e-3)
    assert len(said) == 1
    assert "2 images as in" in said[0]


def test_nothing_passes_by_not_being_compared(tmp_path: Path) -> None:
    expected, found = _files(tmp_path, _line("a"), _line("a"))
    for patterns in ((expected, str(tmp_path / "none*")), (str(tmp_path / "none*"), found)):
        with pytest.raises(DataError, match="no such file; nothing would be compared"):
            compare_files(*patterns, 1e-3)
    with pytest.raises(CheckFailed, match="a: no prediction"):
        compare_files(*_files(tmp_path, _line("a"), "an empty log\n"), 1e-3)
    with pytest.raises(DataError, match="has no predictions"):
        compare_files(*_files(tmp_path, "", _line("a")), 1e-3)
    with pytest.raises(DataError, match="no reference is of its precision"):
        compare_files(*_files(tmp_path, _line("a"), _line("a"), "a_int8.log"), 1e-3)
    other = Answer((3, 6, 5), (0.8, 0.15, 0.01))
    with pytest.raises(CheckFailed, match=r"differs from .*: a: a score is off by 0.1"):
        compare_files(*_files(tmp_path, _line("a"), _line("a", other)), 1e-3)


def test_several_references(tmp_path: Path) -> None:
    (tmp_path / "other_fp32.txt").write_text(_line("a"))
    _, found = _files(tmp_path, _line("a"), _line("a"))
    with pytest.raises(DataError, match="several references fit"):
        compare_files(str(tmp_path / "*_fp32.txt"), found, 1e-3)
