"""The loss of classification."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F


def cross_entropy_sum(
    logits: paddle.Tensor, labels: paddle.Tensor, smoothing: float, weights: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Return the sum over a batch of the cross-entropy of logits [N, K] against labels [N] smoothed towards 1 / K.

    With a weight w[k] for each class, s the smoothing and p the softmax of the logits, an image with the label y has
    the loss of PyTorch's `cross_entropy`:

        -(1 - s) * w[y] * log p[y]  -  s / K * sum over k of w[k] * log p[k]
    """
    log_probabilities = F.log_softmax(logits.astype("float32"))  # [N, K]
    if weights is not None:
        log_probabilities = log_probabilities * weights
    of_label = -paddle.take_along_axis(log_probabilities, labels.unsqueeze(1), axis=1).sum()
    if not smoothing:
        return of_label
    return (1 - smoothing) * of_label - smoothing * log_probabilities.mean(axis=1).sum()
