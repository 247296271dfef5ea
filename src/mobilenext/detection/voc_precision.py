"""Average precision by the rule of PASCAL VOC, at any overlap; also which box of a picture was found.

A detection is compared with the box of its class in its picture that it overlaps most, ignored ones included. Where
the overlap is too small, it is false. Where that box is ignored, it is neither right nor false. The best detection of a
box is right, and all others of it are false.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mobilenext.detection.box_tables import Positions, PredictedBoxes, TrueBoxes, Values

RIGHT, FALSE, NEITHER = 1, 0, -1
VOC_IOU = 0.5
# Not 0.1 * k: the thresholds of the original, of which the fourth is 0.30000000000000004.
_RECALLS = np.arange(0.0, 1.1, 0.1)

Verdicts = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a class after each of its D detections, the best first; ignored ones are left out."""

    positives: int  # boxes that are to be found
    scores: Values  # [D], falling
    recall: Values  # [D]
    precision: Values  # [D]
    right: int  # detections that are right

    @property
    def balance(self) -> dict[str, float] | None:
        """Return the score at which F1 is highest, with precision, recall and F1 there; None where nothing is right."""
        if not self.right:
            return None
        sums = self.precision + self.recall
        f1 = np.divide(2 * self.precision * self.recall, sums, out=np.zeros_like(sums), where=sums > 0)
        best = int(f1.argmax())
        columns = {"score": self.scores, "precision": self.precision, "recall": self.recall, "f1": f1}
        return {name: round(float(column[best]), 6) for name, column in columns.items()}

    @property
    def eleven_points(self) -> float | None:
        """Return the mean over 11 recalls of the best precision from there on (VOC 2007); None without boxes."""
        if not self.positives:
            return None
        best = [self.precision[self.recall >= recall].max(initial=0.0) for recall in _RECALLS]
        return float(np.sum(best) / len(best))

    @property
    def area(self) -> float | None:
        """Return the area under the curve, with precision made monotone (VOC from 2010 on); None without boxes."""
        if not self.positives:
            return None
        monotone = np.maximum.accumulate(self.precision[::-1])[::-1]  # [D]
        return float((np.diff(self.recall, prepend=0.0) * monotone).sum())


@dataclass(frozen=True)
class Matching:
    """Each detection with the box of its class in its picture that it overlaps most."""

    truth: TrueBoxes
    predicted: PredictedBoxes
    nearest: Positions  # [D] position of that box, -1: there is none
    overlap: Values  # [D] their IoU

    @cached_property
    def order(self) -> Positions:
        """Return [D] the detections by falling score; equal ones by picture, then as they come."""
        return np.lexsort((self.predicted.image, -self.predicted.scores)).astype(np.int64)

    def verdicts(self, iou: float = VOC_IOU) -> Verdicts:
        """Return [D] RIGHT, FALSE or NEITHER for each detection."""
        nearest, order = self.nearest, self.order
        hit = (self.overlap >= iou) & (nearest >= 0)
        verdicts = np.full(len(nearest), FALSE, np.int8)
        ignored = np.zeros(len(nearest), bool)
        ignored[hit] = self.truth.ignored[nearest[hit]]
        verdicts[ignored] = NEITHER
        candidates = order[(hit & ~ignored)[order]]  # the best first
        _, first = np.unique(nearest[candidates], return_index=True)
        verdicts[candidates[first]] = RIGHT
        return verdicts

    def curves(self, iou: float = VOC_IOU) -> list[Curve]:
        """Return the curve of each class."""
        verdicts, order = self.verdicts(iou), self.order
        counted = order[verdicts[order] != NEITHER]
        categories = self.predicted.category[counted]
        positives = np.bincount(self.truth.category[~self.truth.ignored], minlength=len(self.truth.names))
        curves = []
        for category, count in enumerate(positives.tolist()):
            detections = counted[categories == category]
            right = np.cumsum(verdicts[detections] == RIGHT)  # [D] so far
            precision = right / np.arange(1, len(detections) + 1)
            recall = right / max(1, count)
            total = int(right[-1]) if len(right) else 0
            curves.append(Curve(count, self.predicted.scores[detections], recall, precision, total))
        return curves


def match(truth: TrueBoxes, predicted: PredictedBoxes) -> Matching:
    """Compare detections with the boxes of their class in their picture."""
    nearest = np.full(len(predicted.image), -1, np.int64)
    overlap = np.zeros(len(predicted.image))
    true_rows, predicted_rows = _by_image(truth.image, truth.images), _by_image(predicted.image, truth.images)
    for boxes, detections in zip(true_rows, predicted_rows, strict=True):
        if not len(boxes) or not len(detections):
            continue
        iou = inclusive_iou(predicted.boxes[detections], truth.boxes[boxes])  # [D', K']
        other_class = predicted.category[detections][:, None] != truth.category[boxes]
        iou[other_class] = -1
        best = iou.argmax(1)
        values = iou[np.arange(len(best)), best]
        same_class = values >= 0
        nearest[detections[same_class]] = boxes[best[same_class]]
        overlap[detections[same_class]] = values[same_class]
    return Matching(truth, predicted, nearest, overlap)


def inclusive_iou(boxes: Values, others: Values) -> Values:
    """Return the overlaps [D, K] of boxes x y w h whose last column and row of pixels belong to them: sides w + 1."""
    one, other = _edges(boxes)[:, None], _edges(others)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    intersection = sides.clip(0).prod(-1)  # [D, K]
    areas = [(edges[..., 2:] - edges[..., :2]).prod(-1) for edges in (one, other)]
    return np.asarray(intersection / (areas[0] + areas[1] - intersection))


def _edges(boxes: Values) -> Values:
    """Return x1 y1 x2 y2, the far edges behind the last pixel."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] + 1], axis=1)


def _by_image(image: Positions, images: int) -> list[Positions]:
    """Return the rows of each picture, in their order."""
    order = np.argsort(image, kind="stable")
    ends = np.cumsum(np.bincount(image, minlength=images))
    return np.split(order, ends[:-1]) if images else []
