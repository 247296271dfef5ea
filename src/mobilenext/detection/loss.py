"""The two losses of a detector: of its classes and of its boxes.

    multibox    softmax cross-entropy of all positives and of the hardest negatives of each picture, three for each
                positive: those with the largest -log(softmax) of background. A picture without positives gives
                `NEGATIVES_OF_EMPTY`; the authors' code gives none of it.
    focal       sigmoid focal loss of all priors and columns (alpha 0.25, gamma 2), times 5 as the authors have it

The loss of the boxes is smooth L1 of the positives in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import paddle.nn.functional as F

from mobilenext.arrays import Floats
from mobilenext.detection.matching import NEGATIVES_OF_EMPTY, NEGATIVES_PER_POSITIVE, match
from mobilenext.detection.priors import check_shapes
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import Form, find_form

_ALPHA = 0.25  # weight of a class that is there; one that is not has 1 - _ALPHA
_FOCAL_WEIGHT = 5.0


def losses(
    scores: paddle.Tensor,
    regressions: paddle.Tensor,
    boxes: Sequence[npt.ArrayLike],
    labels: Sequence[npt.ArrayLike],
    *,
    form: str | Form | Mapping[str, Any],
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return the losses of classification and of regression, two differentiable scalars.

    Both are divided by the positives of the batch, at least 1. Training minimizes their sum.

    Args:
        scores: [N, P, C], raw; C counts one column more than there are classes.
        regressions: [N, P, 4], raw.
        boxes: of each picture [K, 4], x1 y1 x2 y2 as fractions of the picture.
        labels: of each picture [K], classes from 1.
        form: voc, coco, a `Form`, or a mapping of its fields.

    Raises:
        UsageError: shapes, labels or boxes that do not fit the form or each other.
    """
    form = find_form(form)
    check_shapes(scores.shape, regressions.shape, form)
    pictures, _, columns = scores.shape
    if len(boxes) != pictures or len(labels) != pictures:
        raise UsageError(f"boxes of {len(boxes)} and labels of {len(labels)} pictures; expected {pictures} of each")
    targets = [match(*picture, form) for picture in zip(boxes, labels, strict=True)]
    target_labels = np.stack([target.labels for target in targets])  # [N, P]
    if target_labels.max() >= columns:
        raise UsageError(f"a label is {target_labels.max()}; expected 1 to {columns - 1}, as the scores have columns")
    target_regressions = np.stack([target.regressions for target in targets])  # [N, P, 4]
    classification, regression, positives = loss_sums(
        scores, regressions, paddle.to_tensor(target_labels), paddle.to_tensor(target_regressions), form
    )
    divisor = paddle.clip(positives, min=1.0)
    return classification / divisor, regression / divisor


def loss_sums(
    scores: paddle.Tensor, regressions: paddle.Tensor, labels: paddle.Tensor, targets: paddle.Tensor, form: Form
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Return the sums over a batch of the losses of classification and of regression, and the number of positives.

    All three are float32 scalars. Divided by the positives (at least 1) of a whole batch, also where it is spread over
    processes, the sums are the losses; the factor 5 of the focal loss is in its sum.

    Args:
        scores: [N, P, C]. regressions: [N, P, 4].
        labels: int64 [N, P], 0 is background. targets: float32 [N, P, 4], as `match` gives both.
    """
    scores, regressions = scores.astype("float32"), regressions.astype("float32")
    positive = labels > 0  # [N, P]
    if form.loss == "focal":
        classification = _FOCAL_WEIGHT * _focal_sum(scores, labels)
    else:
        classification = _multibox_sum(scores, labels)
    # Where there is no box, the difference of equal numbers is 0, and so is its gradient.
    regressions = paddle.where(positive.unsqueeze(-1), regressions, targets)
    regression = F.smooth_l1_loss(regressions, targets, reduction="sum", delta=1.0)
    return classification, regression, positive.astype("float32").sum()


def chosen_by_multibox(background_losses: Floats, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which priors [N, P] count: all positives and the hardest negatives of each picture.

    Of equally hard ones, the lower prior counts.

    Args:
        background_losses: [N, P], -log of the softmax of background. labels: [N, P].
    """
    chosen = labels > 0
    for row, losses_of_picture in zip(chosen, background_losses, strict=True):
        positives = int(row.sum())
        wanted = NEGATIVES_PER_POSITIVE * positives or NEGATIVES_OF_EMPTY
        hardness = np.where(row, -np.inf, losses_of_picture)
        hardest = np.argsort(-hardness, kind="stable")[: min(wanted, row.size - positives)]
        row[hardest] = True
    return chosen


def _multibox_sum(scores: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    # Paddle's log_softmax and cross_entropy treat logits more than 64 below the largest as if they were 64 below it:
    # their losses end there, and their gradients vanish.
    totals = paddle.logsumexp(scores, axis=-1)  # [N, P]
    background_losses = (totals - scores[:, :, 0]).detach()
    chosen = paddle.to_tensor(chosen_by_multibox(background_losses.numpy(), labels.numpy()))  # [N, P]
    of_label = paddle.take_along_axis(scores, labels.unsqueeze(-1), axis=-1).squeeze(-1)  # [N, P]
    return ((totals - of_label) * chosen.astype("float32")).sum()


def _focal_sum(scores: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Sum alpha * (1 - p)^2 * -log p over priors and columns, p the probability of what is right for the column.

    Column k belongs to class k + 1, so background, label 0, has none.
    """
    of_label = F.one_hot(labels, scores.shape[-1] + 1)[:, :, 1:]  # [N, P, C]
    wrong = scores * (1 - 2 * of_label)  # the logit of 1 - p
    weights = (1 - _ALPHA) + (2 * _ALPHA - 1) * of_label
    return (weights * F.sigmoid(wrong).square() * -F.log_sigmoid(-wrong)).sum()
