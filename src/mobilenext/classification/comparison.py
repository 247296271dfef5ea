"""Compare a measured accuracy with the one that was published for the same weights."""

from __future__ import annotations

from typing import Any

from mobilenext.classification.metrics import Counts
from mobilenext.models import Published, WeightsCard
from mobilenext.weights.record import WeightsRecord

SAME_POINTS = 0.05  # decoders and kernels move a published top-1 by this much
SAME_IMAGES = 1.5  # and, of a small data set, by an image at least


def compare(card: WeightsCard | None, counts: Counts, weights: WeightsRecord, precision: str) -> dict[str, Any] | None:
    """Return the published accuracy, the measured one, their difference and a verdict; None without a published one.

    Args:
        card: of the published weights.
        counts: of the evaluation.
        weights: that were evaluated; their preprocessing and identity divisor must be those of the card.
        precision: that they ran in.
    """
    if card is None or not isinstance(card.published, Published):
        return None
    published = card.published
    summary = counts.summary()
    values: dict[str, Any] = {
        "dataset": published.dataset,
        "origin": card.origin,
        "expected_top1_percent": published.top1_percent,
        "measured_top1_percent": summary["top1_percent"],
    }
    reasons = []
    if counts.images != published.images:
        reasons.append(f"{counts.images} images instead of {published.images}")
    if weights.preprocessing != card.preprocessing:
        reasons.append("another preprocessing")
    if weights.identity_divisor != card.identity_divisor:
        reasons.append(f"identity divisor {weights.identity_divisor} instead of {card.identity_divisor}")
    if card.use != "auto" and weights.kind != card.use:
        reasons.append(f"{weights.kind} weights instead of {card.use}")
    if precision != "fp32":
        reasons.append(f"{precision} instead of fp32")
    if reasons:
        return {**values, "verdict": "not comparable", "reason": ", ".join(reasons)}
    difference = round(summary["top1_percent"] - published.top1_percent, 3)
    allowed = round(max(SAME_POINTS, 100 * SAME_IMAGES / counts.images), 3)
    if abs(difference) <= allowed:
        verdict, reason = "reproduced", f"within {allowed} points, which decoders and kernels account for"
    else:
        verdict, reason = "differs", f"by more than the {allowed} points that decoders and kernels account for"
    return {**values, "difference_points": difference, "verdict": verdict, "reason": reason}
