"""Which boxes of one picture were found, which were missed, and which detections are false: for pictures of errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilenext.detection.box_tables import Positions
from mobilenext.detection.rows import DetectedImage, tables_of
from mobilenext.detection.voc_precision import FALSE, NEITHER, RIGHT, VOC_IOU, match


@dataclass(frozen=True, eq=False)
class PictureMatches:
    """Positions in the row of the picture, by the rule of VOC."""

    hits: Positions  # boxes that are there and were found
    missed: Positions  # boxes that are there and were not, without ignored ones (difficult or crowd)
    right: Positions  # detections of them, in the order of `hits`
    false: Positions  # detections of nothing, of another class, or of a box that was found already
    ignored: Positions  # detections of ignored boxes

    @property
    def errors(self) -> int:
        """Return the number of missed boxes and false detections."""
        return len(self.missed) + len(self.false)


def match_picture(row: DetectedImage, *, score_threshold: float = 0.0, iou: float = VOC_IOU) -> PictureMatches:
    """Compare the detections of a picture whose score is above a threshold with the boxes that are there."""
    highest = int(max(row.labels.max(initial=0), row.truth.labels.max(initial=0)))
    matching = match(*tables_of([row], [str(label + 1) for label in range(highest)]))
    verdicts = matching.verdicts(iou)
    shown = row.scores > score_threshold  # a better detection has a higher score, so that those left out change nothing
    right = np.flatnonzero(shown & (verdicts == RIGHT))
    hits = matching.nearest[right]
    missed = np.setdiff1d(np.flatnonzero(~matching.truth.ignored), hits)
    return PictureMatches(
        hits, missed, right, np.flatnonzero(shown & (verdicts == FALSE)), np.flatnonzero(shown & (verdicts == NEITHER))
    )
