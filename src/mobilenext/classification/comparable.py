"""The best classes of an image, and whether two programs agree on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilenext.classification.metrics import Prediction
from mobilenext.comparable import Comparison
from mobilenext.json_files import Unfit, many, number, whole

_ROUNDING = 1.000001e-6  # of scores that are printed with six digits
_CLASSES, _SCORES = many(whole(0)), many(number())


@dataclass(frozen=True)
class BestClasses:
    """The best classes of one image, and their scores."""

    classes: tuple[int, ...]
    scores: tuple[float, ...]

    def columns(self) -> list[list[Any]]:
        """Return ids and scores."""
        return [list(self.classes), list(self.scores)]

    def disagreement(self, other: BestClasses, atol: float) -> str | None:
        """Return how `other` differs from this answer; None where no score is off by more than `atol`.

        Classes may change places, or drop out at the end, only where their scores are that close.
        """
        allowed = atol + _ROUNDING
        if len(self.classes) != len(other.classes):
            return f"{len(other.classes)} classes instead of {len(self.classes)}"
        mine = dict(zip(self.classes, self.scores, strict=True))
        others = dict(zip(other.classes, other.scores, strict=True))
        ranked = max((abs(a - b) for a, b in zip(self.scores, other.scores, strict=True)), default=0.0)
        beyond = [number for number in mine if number not in others and mine[number] > other.scores[-1] + allowed]
        worst = max([ranked, *(abs(mine[number] - others[number]) for number in mine if number in others)])
        if beyond:
            return f"class {beyond[0]} is missing"
        if not worst <= allowed:  # a NaN is a difference, too
            return f"a score is off by {worst:.2g} (allowed {atol:g})"
        return None


def of_columns(columns: Any) -> BestClasses:
    """Return the classes of ``[[ids], [scores]]``.

    Raises:
        Unfit: something else.
    """
    if not isinstance(columns, list) or len(columns) != 2:
        raise Unfit("expected [[ids],[scores]]")
    classes, scores = columns
    _CLASSES(classes, "ids")
    _SCORES(scores, "scores")
    if len(classes) != len(scores):
        raise Unfit(f"{len(classes)} ids and {len(scores)} scores; expected as many")
    return BestClasses(tuple(classes), tuple(map(float, scores)))


def _of_answer(answer: Mapping[str, Any]) -> BestClasses:
    return of_columns([answer.get("classes"), answer.get("scores")])


def _of_row(row: Prediction) -> BestClasses:
    return BestClasses(row.top5, row.scores)


COMPARISON = Comparison(of_answer=_of_answer, of_row=_of_row, of_columns=of_columns)
