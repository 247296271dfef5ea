"""From the raw outputs of a detector to boxes: scores, decoding, and suppression within each class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.detection.coding import decode_boxes
from mobilenext.detection.priors import check_shapes, prior_boxes
from mobilenext.errors import WeightsError
from mobilenext.models.detector_form import Form, find_form

_BLOCK = 256  # candidates whose overlaps are computed at once


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes that a detector answers for one picture, the best first."""

    boxes: Floats  # [K, 4], x1 y1 x2 y2, not clipped; in pixels of the input where `decode` made them
    labels: npt.NDArray[np.int64]  # [K], classes from 1
    scores: Floats  # [K], falling

    def __len__(self) -> int:
        return len(self.labels)


def decode(
    scores: npt.ArrayLike,
    regressions: npt.ArrayLike,
    *,
    form: str | Form,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    limit: int | None = None,
    mirrored: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> list[Detections]:
    """Return the boxes of N pictures from the raw outputs of a network.

    Softmax or sigmoid is applied here, whichever the form has. Every class of a prior whose score is above the
    threshold is a candidate; one that overlaps a better candidate of its class by more than the threshold is
    suppressed; the best `limit` over all classes are kept. Of equal scores, that of the lower prior is the better.

    Args:
        scores: [N, P, C], raw. Of the form voc, column 0 is background; of coco, the last column is dropped.
        regressions: [N, P, 4], raw.
        form: voc, coco or a `Form`.
        score_threshold, iou_threshold, limit: None takes those of the form.
        mirrored: scores and regressions for the mirrored pictures. Their boxes are mirrored back, and come into the
            same suppression; of equal scores, that of the picture itself is the better.

    Raises:
        UsageError: shapes that do not fit the form, or a threshold or limit outside its range.
        WeightsError: an output is not a finite number.
    """
    options = {"score_threshold": score_threshold, "iou_threshold": iou_threshold, "limit": limit}
    form = find_form(form).replace(**{name: value for name, value in options.items() if value is not None})
    logits, offsets = _checked(scores, regressions, form)
    priors = prior_boxes(form)
    if mirrored is not None:
        # The priors are mirrored themselves, since they need not lie symmetrically: those of level 3 do not.
        turned_logits, turned_offsets = _checked(*mirrored, form)
        logits = np.concatenate([logits, turned_logits], axis=1)  # [N, 2P, C]
        offsets = np.concatenate([offsets, turned_offsets * np.array([-1, 1, 1, 1], np.float32)], axis=1)  # [N, 2P, 4]
        turned_priors = priors.copy()
        turned_priors[:, 0] = 1 - priors[:, 0]
        priors = np.concatenate([priors, turned_priors])  # [2P, 4]
    return [_detections(*picture, priors, form) for picture in zip(logits, offsets, strict=True)]


def _checked(scores: npt.ArrayLike, regressions: npt.ArrayLike, form: Form) -> tuple[Floats, Floats]:
    """Return raw outputs as float32: finite, and of the form's shapes."""
    logits, offsets = np.asarray(scores, np.float32), np.asarray(regressions, np.float32)
    check_shapes(logits.shape, offsets.shape, form)
    for name, values in (("scores", logits), ("regressions", offsets)):
        if not np.isfinite(values).all():
            raise WeightsError(
                f"{name} of the network are not finite numbers (NaN or infinity); expected none: its weights are "
                "damaged, or the training that made them diverged"
            )
    return logits, offsets


def probabilities(logits: Floats, form: Form) -> Floats:
    """Return the scores [..., P, classes] of logits [..., P, classes + 1]: column k is that of label k + 1."""
    if form.loss == "focal":
        exponentials = np.exp(-np.abs(logits[..., :-1]))  # never overflows
        positive = logits[..., :-1] >= 0
        sigmoids: Floats = np.where(positive, np.float32(1), exponentials) / (1 + exponentials)
        return sigmoids
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax: Floats = exponentials[..., 1:] / exponentials.sum(axis=-1, keepdims=True)
    return softmax


def _detections(logits: Floats, regressions: Floats, priors: Floats, form: Form) -> Detections:
    classes = probabilities(logits, form)  # [P, classes]
    columns = classes.shape[1]
    candidates = np.flatnonzero(classes > np.float32(form.score_threshold))  # of prior-major order
    scores = classes.reshape(-1)[candidates]
    order = np.argsort(-scores, kind="stable")
    candidates, scores = candidates[order], scores[order]
    numbers, labels = candidates // columns, candidates % columns + 1
    boxes = decode_boxes(regressions[numbers], priors[numbers]) * np.float32(form.image_size)
    if not np.isfinite(boxes).all():
        raise WeightsError(
            "regressions of the network are so large that boxes are infinite; expected finite boxes: its weights are "
            "damaged, or the training that made them diverged"
        )
    kept = suppress(boxes, labels, form.iou_threshold, form.limit)
    return Detections(boxes[kept], labels[kept], scores[kept])


def suppress(boxes: Floats, labels: npt.NDArray[np.int64], iou_threshold: float, limit: int) -> npt.NDArray[np.intp]:
    """Return the positions of the first `limit` boxes that no better box of their class overlaps by more.

    Candidates are compared in falling order over all classes, and the work ends with the box number `limit`: the same
    boxes that the suppression of whole classes one by one would keep.

    Args:
        boxes: [M, 4], x1 y1 x2 y2. labels: [M]. Both in falling order of their scores.
    """
    kept = np.zeros(0, np.intp)
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(kept):  # what boxes of earlier blocks suppress
            suppressed = _overlaps(boxes[kept], boxes[block], labels[kept], labels[block], iou_threshold).any(axis=0)
            block = block[~suppressed]
        overlaps = _overlaps(boxes[block], boxes[block], labels[block], labels[block], iou_threshold)
        kept = np.concatenate([kept, block[list(_greedy(overlaps, limit - len(kept)))]])
        if len(kept) == limit:
            break
    return kept


def _greedy(overlaps: npt.NDArray[np.bool_], limit: int) -> Iterator[int]:
    """Yield the first `limit` rows, each of which rules out the later ones that it overlaps."""
    suppressed = np.zeros(len(overlaps), bool)
    for row in range(len(overlaps)):
        if limit and not suppressed[row]:
            limit -= 1
            suppressed |= overlaps[row]
            yield row


def _overlaps(
    boxes: Floats,
    others: Floats,
    labels: npt.NDArray[np.int64],
    other_labels: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.bool_]:
    """Return which of the boxes [A, 4] and [B, 4] are of one class and overlap by more than the threshold: [A, B]."""
    x1, y1, x2, y2 = boxes.T[..., None]  # [A, 1] each
    left, top, right, bottom = others.T  # [B] each
    widths = np.minimum(x2, right) - np.maximum(x1, left)  # [A, B]
    heights = np.minimum(y2, bottom) - np.maximum(y1, top)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # boxes without area, or with a huge one
        intersections = np.maximum(widths, 0) * np.maximum(heights, 0)
        unions = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - intersections
        far = intersections / unions > np.float32(iou_threshold)
    overlapping: npt.NDArray[np.bool_] = far & (labels[:, None] == other_labels)
    return overlapping
