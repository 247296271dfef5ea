"""From the raw outputs of a detector to boxes: scores, decoding, and suppression within each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.detection.coding import decode_boxes
from mobilenext.detection.priors import check_shapes, prior_boxes
from mobilenext.errors import WeightsError
from mobilenext.models.detector_form import Form, find_form

_BLOCK = 128  # candidates whose overlaps are computed at once


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
    form: str | Form | Mapping[str, Any],
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
        form: voc, coco, a `Form`, or a mapping of its fields.
        score_threshold, iou_threshold, limit: None takes those of the form.
        mirrored: scores and regressions for the mirrored pictures. Their boxes are mirrored back, and come into the
            same suppression; of equal scores, that of the picture itself is the better.

    Raises:
        UsageError: shapes that do not fit the form, or a threshold or limit outside its range.
        WeightsError: an output or a box is NaN or infinite.
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


def count_candidates(scores: npt.ArrayLike, form: Form) -> int:
    """Return how many classes of priors are above the form's threshold in raw scores [N, P, C]."""
    threshold = np.float32(form.score_threshold)
    return sum(len(_candidates(logits, form, threshold)[0]) for logits in np.asarray(scores, np.float32))


def _checked(scores: npt.ArrayLike, regressions: npt.ArrayLike, form: Form) -> tuple[Floats, Floats]:
    """Return raw outputs as float32: finite, and of the form's shapes."""
    logits, offsets = np.asarray(scores, np.float32), np.asarray(regressions, np.float32)
    check_shapes(logits.shape, offsets.shape, form)
    for name, values in (("scores", logits), ("regressions", offsets)):
        if not np.isfinite(values).all():
            raise WeightsError(
                f"the network's {name} are not finite (NaN or infinity): the weights are damaged, do not belong to "
                "this model and preprocessing, or the training that made them diverged"
            )
    return logits, offsets


def _detections(logits: Floats, regressions: Floats, priors: Floats, form: Form) -> Detections:
    candidates, scores = _candidates(logits, form, np.float32(form.score_threshold))
    order = np.argsort(-scores, kind="stable")
    numbers, columns = np.divmod(candidates[order], logits.shape[1])
    labels = columns + 1 if form.loss == "focal" else columns
    boxes = decode_boxes(regressions, priors) * np.float32(form.image_size)  # [P, 4]
    kept = suppress(boxes, numbers, labels, form.iou_threshold, form.limit)
    detections = Detections(boxes[numbers[kept]], labels[kept], scores[order[kept]])
    if not np.isfinite(detections.boxes).all():
        raise WeightsError(
            "the network's regressions are so large that boxes are infinite: the weights are damaged, or the training "
            "that made them diverged"
        )
    return detections


def _candidates(logits: Floats, form: Form, threshold: np.float32) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the flat positions in logits [P, C] whose score is above the threshold, and that score."""
    return (_focal_candidates if form.loss == "focal" else _multibox_candidates)(logits, threshold)


def _multibox_candidates(logits: Floats, threshold: np.float32) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the flat positions in logits [P, C] whose softmax is above the threshold, without column 0; and that."""
    columns = np.ascontiguousarray(logits.T)  # [C, P]: NumPy reduces the first axis several times as fast as the last
    columns -= columns.max(axis=0)
    np.exp(columns, out=columns)
    columns /= columns.sum(axis=0)
    columns[0] = -1  # background is no class
    scores = columns.T.ravel()  # [P * C], again by priors: equal scores keep that order
    candidates = np.flatnonzero(scores > threshold)
    return candidates, scores[candidates]


def _focal_candidates(logits: Floats, threshold: np.float32) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the flat positions in logits [P, C] whose sigmoid is above the threshold, without the last column; and it.

    A bound of the logits, a little below the threshold's, saves the exponentials of almost all.
    """
    with np.errstate(divide="ignore"):  # thresholds of 0 and 1 have no finite logit
        bound = np.log(np.float64(threshold)) - np.log1p(-np.float64(threshold)) - 1e-3
    candidates = np.flatnonzero(logits.ravel() > np.float32(bound))
    candidates = candidates[candidates % logits.shape[1] < logits.shape[1] - 1]
    values = logits.ravel()[candidates]
    exponentials = np.exp(-np.abs(values))  # never overflows
    scores = np.where(values >= 0, np.float32(1), exponentials) / (1 + exponentials)
    above = scores > threshold
    return candidates[above], scores[above]


def suppress(
    boxes: Floats, numbers: npt.NDArray[np.intp], labels: npt.NDArray[np.intp], iou_threshold: float, limit: int
) -> npt.NDArray[np.intp]:
    """Return the positions of the first `limit` candidates that no better one of their class overlaps by more.

    Candidates are taken in falling order over all classes, and the work ends with the one number `limit`: the same
    candidates that the suppression of whole classes, one by one, would keep. Only candidates of one class are compared,
    so that there are at most P * `limit` comparisons with those that are kept.

    Args:
        boxes: [P, 4], x1 y1 x2 y2.
        numbers: [M], the boxes of the candidates, in falling order of their scores. labels: [M].
    """
    kept = np.zeros(0, np.intp)
    for start in range(0, len(numbers), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(numbers)))
        if len(kept):  # what candidates of earlier blocks suppress
            _, suppressed = _overlapping(boxes, numbers, labels, kept, block, iou_threshold)
            free = np.ones(len(block), bool)
            free[suppressed] = False
            block = block[free]
        overlaps = np.zeros((len(block), len(block)), bool)
        overlaps[_overlapping(boxes, numbers, labels, block, block, iou_threshold)] = True
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


def _overlapping(
    boxes: Floats,
    numbers: npt.NDArray[np.intp],
    labels: npt.NDArray[np.intp],
    better: npt.NDArray[np.intp],
    others: npt.NDArray[np.intp],
    iou_threshold: float,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the pairs of one class that overlap by more than the threshold: positions in `better` and in `others`."""
    rows, columns = _pairs_of_one_class(labels[better], labels[others])
    x1, y1, x2, y2 = boxes[numbers[better]].T.take(rows, axis=1)  # one number for each pair
    left, top, right, bottom = boxes[numbers[others]].T.take(columns, axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # boxes without area, or with a huge one
        widths = np.maximum(np.minimum(x2, right) - np.maximum(x1, left), 0)
        heights = np.maximum(np.minimum(y2, bottom) - np.maximum(y1, top), 0)
        intersections = widths * heights
        unions = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - intersections
        far = intersections / unions > np.float32(iou_threshold)
    return rows[far], columns[far]


def _pairs_of_one_class(
    labels: npt.NDArray[np.intp], others: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions in labels [A] and in others [B] of all pairs of equal labels."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    first = np.searchsorted(grouped, others, "left")  # [B]
    counts = np.searchsorted(grouped, others, "right") - first
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(first - ends + counts, counts)
    return order[places], np.repeat(np.arange(len(others)), counts)
