"""Targets of the priors: which box of a picture each prior is trained to find.

Every prior takes the box that it overlaps most, if the overlap (intersection over union) is at least `MATCHED_IOU`. So
that no box is left out, its best prior is given to it whatever the overlap; of two boxes with the same best prior the
later one has it. These are the authors' rules. Boxes without width or height, and inverted ones, are left out: for them
the authors' code computes NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.detection.coding import encode, to_corners
from mobilenext.detection.priors import prior_boxes
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import Form, find_form

MATCHED_IOU = np.float32(0.5)
# What `multibox` compares with the boxes (see `mobilenext.detection.loss`).
NEGATIVES_PER_POSITIVE = 3
NEGATIVES_OF_EMPTY = 32  # of a picture without positives
_EPSILON = np.float32(1e-5)  # is added to the union, as the authors do
_BLOCK = 128  # boxes that are compared with all priors at once: bounds the memory of a picture with many boxes


class Targets(NamedTuple):
    """What the P priors of one picture are trained to answer."""

    labels: npt.NDArray[np.int64]  # [P], 0 is background
    regressions: Floats  # [P, 4]; zeros where the label is 0


def match(corners: npt.ArrayLike, labels: npt.ArrayLike, form: str | Form | Mapping[str, Any]) -> Targets:
    """Return the targets of one picture with K boxes.

    Args:
        corners: [K, 4], x1 y1 x2 y2 as fractions of the picture.
        labels: [K], classes from 1.

    Raises:
        UsageError: other shapes, a label below 1, or a box that is not finite.
    """
    form = find_form(form)
    boxes, classes = checked_boxes(corners, labels)
    targets = Targets(np.zeros(form.priors, np.int64), np.zeros((form.priors, 4), np.float32))
    sound = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, classes = boxes[sound], classes[sound]
    if not len(boxes):
        return targets
    best_ious, best_boxes, best_priors = _best(boxes, form)
    # The last of several boxes with the same best prior has it: an assignment to equal indices keeps the last value,
    # but NumPy does not promise that, hence the dictionary.
    for prior, number in {int(prior): number for number, prior in enumerate(best_priors)}.items():
        best_ious[prior], best_boxes[prior] = 2, number
    positive = np.flatnonzero(best_ious >= MATCHED_IOU)
    numbers = best_boxes[positive]
    targets.labels[positive] = classes[numbers]
    targets.regressions[positive] = encode(boxes[numbers], prior_boxes(form)[positive])
    return targets


def ious_with_priors(boxes: Floats, form: Form) -> Floats:
    """Return the overlaps [K, P] of boxes [K, 4] (x1 y1 x2 y2, fractions) with the priors, as matching counts them."""
    corners, areas = _prior_corners(form)
    x1, y1, x2, y2 = boxes.T[..., None]  # [K, 1] each
    widths = np.minimum(x2, corners[2]) - np.maximum(x1, corners[0])  # [K, P]
    heights = np.minimum(y2, corners[3]) - np.maximum(y1, corners[1])
    np.maximum(widths, 0, out=widths)
    np.maximum(heights, 0, out=heights)
    intersections = np.multiply(widths, heights, out=widths)
    unions = np.subtract((x2 - x1) * (y2 - y1) + areas, intersections, out=heights)
    unions += _EPSILON
    ious: Floats = np.divide(intersections, unions, out=intersections)
    return ious


def checked_boxes(corners: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return corners as float32 [K, 4] and labels as int64 [K]. Raises as `match` does."""
    boxes, classes = np.asarray(corners, np.float32), np.asarray(labels)
    if not boxes.size and not classes.size:  # also an empty list
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or classes.shape != boxes.shape[:1]:
        raise UsageError(f"boxes {list(boxes.shape)} with labels {list(classes.shape)}; expected [K, 4] and [K]")
    if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 1:
        raise UsageError(f"labels of boxes are {classes.dtype} from {classes.min()}; expected whole numbers from 1")
    if not np.isfinite(boxes).all():
        number = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise UsageError(f"box {number} is {boxes[number].tolist()}; expected finite numbers x1 y1 x2 y2")
    return boxes, classes.astype(np.int64, copy=False)


def _best(boxes: Floats, form: Form) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return of every prior the largest overlap [P] and the number [P] of that box, and of every box its best prior.

    Of several equal overlaps, the first box or prior counts.
    """
    best_ious, best_boxes = np.full(form.priors, -1, np.float32), np.zeros(form.priors, np.intp)
    best_priors = []
    for start in range(0, len(boxes), _BLOCK):
        ious = ious_with_priors(boxes[start : start + _BLOCK], form)  # [block, P]
        best_priors.append(ious.argmax(axis=1))
        block_boxes, block_ious = ious.argmax(axis=0), ious.max(axis=0)
        better = block_ious > best_ious
        best_ious[better], best_boxes[better] = block_ious[better], block_boxes[better] + start
    return best_ious, best_boxes, np.concatenate(best_priors)


@lru_cache(maxsize=16)
def _prior_corners(form: Form) -> tuple[Floats, Floats]:
    """Return the corners x1 y1 x2 y2 of the priors, [4, P] and not clipped, and their areas [P]."""
    corners = np.ascontiguousarray(to_corners(prior_boxes(form)).T)
    return corners, (corners[2] - corners[0]) * (corners[3] - corners[1])
