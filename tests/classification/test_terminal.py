"""The picture of a result in a terminal."""

from __future__ import annotations

from mobilenext.classification.metrics import Prediction
from mobilenext.classification.terminal import picture


def _rows(answers: list[tuple[int, int]]) -> list[Prediction]:
    return [
        Prediction(number, f"{number}.png", label, (answer,), (1.0,), 0.0)
        for number, (label, answer) in enumerate(answers)
    ]


def test_a_confusion_matrix() -> None:
    rows = _rows([(0, 0)] * 4 + [(1, 1)] * 1 + [(1, 2)] * 3 + [(2, 2)] * 99 + [(2, 0)])
    assert picture(rows, 3, "utf-8") == [
        "label  0  1  2   right",
        "    0 ██         4 of 4",
        "    1    ░░ ▓▓   1 of 4",
        "    2 ░░    ▓▓   99 of 100",
    ]


def test_a_terminal_without_block_characters() -> None:
    rows = _rows([(0, 0), (1, 0)])
    for encoding in ("ascii", None, "no-such-encoding"):
        assert picture(rows, 2, encoding)[1:] == ["    0 ##      1 of 1", "    1 ##      0 of 1"]


def test_unreadable_images_have_no_answer() -> None:
    rows = [*_rows([(0, 0)]), Prediction(1, "b.png", 0, (), (), None, "broken")]
    assert picture(rows, 2, "utf-8")[1].endswith("1 of 1")


def test_many_classes() -> None:
    lines = picture(_rows([(k, k if k % 2 else 0) for k in range(100)]), 100, "utf-8")
    assert lines[0] == "images right   classes"
    assert lines[1].startswith("  0 to  10 %     49 █")
    assert lines[-1].startswith(" 90 to 100 %     51 █")
    assert lines[-1].count("█") == 30
    assert lines[5] == " 40 to  50 %      0"
