"""The detections of one evaluation as the report needs them: what was found, missed and falsely found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mobilenext.detection.box_tables import Values
from mobilenext.detection.picture_matches import PictureMatches, match_picture
from mobilenext.detection.rows import DetectedImage, tables_of
from mobilenext.detection.voc_precision import NEITHER, RIGHT, Curve, Matching, Verdicts, match
from mobilenext.drawing.cells import shortened
from mobilenext.json_files import Unfit
from mobilenext.presentation import Reported
from mobilenext.statistics import percent

SMALL, LARGE = 32.0**2, 96.0**2  # areas in pixels: COCO's bounds between small, medium and large


@dataclass(frozen=True)
class Detected(Reported):
    """An evaluation with its rows."""

    rows: Sequence[DetectedImage]

    def class_name(self, category: int) -> str:
        """Return the name of the class at a position, not too long."""
        return shortened(self.result["per_class"][category]["name"], 40)

    @cached_property
    def matching(self) -> Matching:
        """Return every detection with the true box that it overlaps most, by the rule of VOC."""
        return match(*tables_of(self.rows, [row["name"] for row in self.result["per_class"]]))

    @cached_property
    def curves(self) -> list[Curve]:
        """Return precision and recall of each class at an overlap of 0.5."""
        return self.matching.curves()

    @cached_property
    def verdicts(self) -> Verdicts:
        """Return [D] right, false or neither, at an overlap of 0.5."""
        return self.matching.verdicts()

    @cached_property
    def threshold(self) -> float:
        """Return the score from which on precision and recall of all classes together have the best F1."""
        order, verdicts = self.matching.order, self.verdicts
        counted = order[verdicts[order] != NEITHER]
        if not len(counted):
            return 0.0
        scores, right = self.matching.predicted.scores[counted], np.cumsum(verdicts[counted] == RIGHT)
        positives = int((~self.matching.truth.ignored).sum())
        f1 = 2 * right / (positives + np.arange(1, len(counted) + 1))
        last = np.append(scores[1:] < scores[:-1], True)  # of equal scores, all or none are above a threshold
        return float(scores[np.where(last, f1, -1).argmax()])

    def at_threshold(self, category: int) -> tuple[int, int, int]:
        """Return how many boxes of a class were found with a score from the threshold on, missed, and false."""
        curve = self.curves[category]
        counted = int((curve.scores >= self.threshold).sum())
        right = round(curve.precision[counted - 1] * counted) if counted else 0
        return right, curve.positives - right, counted - right

    @cached_property
    def matches(self) -> list[PictureMatches]:
        """Return what became of each picture's boxes, where detections count from the threshold on."""
        below = float(np.nextafter(self.threshold, -1.0))
        return [match_picture(row, score_threshold=below) for row in self.rows]

    def worst(self, most: int) -> list[int]:
        """Return the positions of the pictures with the most errors, those with any."""
        errors = [picture.errors for picture in self.matches]
        ranked = sorted(range(len(errors)), key=lambda place: -errors[place])
        return [place for place in ranked[:most] if errors[place]]

    @cached_property
    def boxes_by_size(self) -> dict[str, int]:
        """Return how many true boxes, without crowds, are small, medium and large."""
        truth = self.matching.truth
        areas: Values = truth.areas[~truth.crowd]
        small, large = int((areas < SMALL).sum()), int((areas > LARGE).sum())
        return {"small": small, "medium": len(areas) - small - large, "large": large}


def collect_detections(name: str, result: Mapping[str, Any], rows: Iterable[DetectedImage]) -> Detected:
    """Return the rows of an evaluation.

    Raises:
        Unfit: the counts of the rows are not those of the result.
    """
    rows = list(rows)
    errors = {row.index: row.error for row in rows if row.error is not None}
    detected = Detected(name, result, [row.path for row in rows], errors, rows)
    truth = detected.matching.truth
    objects, detections = int((~truth.ignored).sum()), len(detected.verdicts)
    counts = len(rows), objects, detections, int((detected.verdicts == RIGHT).sum()), len(errors)
    right = sum(row["found"] for row in result["per_class"])
    expected = (*(result[field] for field in ("images", "objects", "detections")), right, result["unreadable"])
    if counts != expected:
        raise Unfit(
            "{} images, {} boxes, {} detections, {} of them right, {} unreadable".format(*counts)
            + "; expected {}, {}, {}, {}, {}".format(*expected)
        )
    return detected


def f1_percent(right: int, missed: int, false: int) -> float:
    """Return F1, the harmonic mean of precision and recall, in percent."""
    return percent(2 * right, 2 * right + missed + false) if right else 0.0
