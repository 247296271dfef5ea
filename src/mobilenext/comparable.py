"""What a task says of answers in logs: how they are written and read, and when two of them for one image agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Comparable(Protocol):
    """The answer for one image, which another way to the same answer has to equal."""

    def columns(self) -> list[list[Any]]:
        """Return it as a log has it: lists of equal length, with an element for each class or box."""

    def disagreement(self, other: Any, atol: float) -> str | None:
        """Return how `other` differs from this answer; None where nothing is off by more than rounding.

        Args:
            other: the answer of another program, of the same task.
            atol: of a score.
        """


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How answers of a task become comparable."""

    # From an answer of `Evaluation.answer`, a row of an evaluation, and columns in a log; Unfit: other values.
    of_answer: Callable[[Mapping[str, Any]], Comparable]
    of_row: Callable[[Any], Comparable]
    of_columns: Callable[[Any], Comparable]
