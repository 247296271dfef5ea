from __future__ import annotations

from mobilenext.classification.evaluation import answer_lines


def test_the_lines_of_an_answer() -> None:
    answer = {"classes": [3, 12], "scores": [0.9, 0.05]}
    assert answer_lines(answer) == [" 90.00 %  class 3", "  5.00 %  class 12"]
    assert answer_lines(answer | {"labels": ["bee", "ant"]})[1] == "  5.00 %  class 12  ant"
