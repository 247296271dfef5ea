"""The boxes of a picture, and whether two programs agree on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.comparable import Comparison
from mobilenext.detection.box_tables import Values
from mobilenext.detection.rows import DetectedImage, Labels
from mobilenext.json_files import Unfit, many, number, record, whole

_PIXELS, _OF_COORDINATE = 0.1, 1e-3  # by which a corner may be off: at least, and as a share of the picture's extent
_ROUNDING = 1.000001e-6  # of scores that are printed with six digits
_COLUMNS = (many(whole(1)), many(number()), many(many(number(), 4)))
_ANSWER = record({"detections": many(record({"label": whole(1), "score": number(), "box": many(number(), 4)}))})


@dataclass(frozen=True, eq=False)
class Boxes:
    """The K boxes of one picture, the best first."""

    labels: Labels  # [K] classes from 1
    scores: Values  # [K]
    boxes: Values  # [K, 4] x1 y1 x2 y2 in pixels of the picture, not beyond its edges

    def columns(self) -> list[list[Any]]:
        """Return labels, scores and corners."""
        return [self.labels.tolist(), self.scores.tolist(), self.boxes.tolist()]

    def disagreement(self, other: Boxes, atol: float) -> str | None:
        """Return how `other` differs from these boxes; None where each has its counterpart.

        A counterpart is of the same class, with a score within `atol` and corners within the rounding of exponentials.
        Only the last boxes of lists of one length, which a limit cuts, may have none.
        """
        allowed = atol + _ROUNDING
        for boxes, others, problem in ((self, other, "is missing"), (other, self, "is not expected")):
            alone = ~boxes.are_in(others, allowed)
            if len(self.scores) == len(other.scores):
                alone &= ~(boxes.scores <= others.scores.min(initial=np.inf) + allowed)
            if alone.any():
                first = int(alone.argmax())
                corners = ", ".join(f"{value:.1f}" for value in boxes.boxes[first])
                return (
                    f"the box ({corners}) of class {boxes.labels[first]} with score {boxes.scores[first]:.4f} "
                    f"{problem} (allowed {atol:g} of a score), {int(alone.sum())} of {len(boxes.scores)} in all"
                )
        return None

    def are_in(self, other: Boxes, allowed: float) -> npt.NDArray[np.bool_]:
        """Return for each box [K] whether the other side has it."""
        pixels = _PIXELS + _OF_COORDINATE * np.abs(self.boxes[:, None]).max(axis=-1, initial=0)  # [K, 1]
        near = np.abs(self.boxes[:, None] - other.boxes[None]).max(axis=-1, initial=0) <= pixels  # [K, L]
        alike = np.abs(self.scores[:, None] - other.scores[None]) <= allowed
        there: npt.NDArray[np.bool_] = (near & alike & (self.labels[:, None] == other.labels[None])).any(axis=1)
        return there


def of_columns(columns: Any) -> Boxes:
    """Return the boxes of ``[[labels], [scores], [[x1, y1, x2, y2], ...]]``.

    Raises:
        Unfit: something else.
    """
    if not isinstance(columns, list) or len(columns) != len(_COLUMNS):
        raise Unfit("expected [[labels],[scores],[boxes]]")
    for check, column, name in zip(_COLUMNS, columns, ("labels", "scores", "boxes"), strict=True):
        check(column, name)
    labels, scores, boxes = columns
    if not len(labels) == len(scores) == len(boxes):
        raise Unfit(f"{len(labels)} labels, {len(scores)} scores and {len(boxes)} boxes; expected as many of each")
    return Boxes(
        np.array(labels, np.int64), np.array(scores, np.float64), np.array(boxes, np.float64).reshape(-1, 4)
    )  # fmt: skip


def _of_answer(answer: Mapping[str, Any]) -> Boxes:
    _ANSWER(answer, "")
    rows = answer["detections"]
    return of_columns([[row[name] for row in rows] for name in ("label", "score", "box")])


def _of_row(row: DetectedImage) -> Boxes:
    """Return the boxes of a row, which an evaluation does not cut at the edges of the picture."""
    edges = np.array([row.width, row.height] * 2, np.float64)
    return Boxes(row.labels, row.scores, row.boxes.clip(0, edges))


COMPARISON = Comparison(of_answer=_of_answer, of_row=_of_row, of_columns=of_columns)
