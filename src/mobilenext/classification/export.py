"""What the export of a classifier is compared by: the first class of every image."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.classification.metrics import Prediction
from mobilenext.export.parity import ALLOWED
from mobilenext.task import Export
from mobilenext.weights.record import WeightsRecord


def agreement(
    expected: Outputs, outputs: Outputs, record: WeightsRecord | None = None
) -> tuple[dict[str, Any], str | None]:
    """Count the images with the same first class, and say whether a clear one has another."""
    (reference,), (logits,) = expected, outputs  # [N, classes]
    first, other = reference.argmax(1), logits.argmax(1)
    # Two classes that are closer than the differences that are allowed may change places.
    best = np.sort(reference, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * ALLOWED * reference.std()
    wrong = int((clear & (other != first)).sum())
    problem = f"{wrong} images of {len(best)} get another class" if wrong else None
    return {"equal_top1": int((other == first).sum())}, problem


def first_class(row: Prediction) -> int:
    """Return the first class of an image."""
    return row.top5[0]


EXPORT = Export(
    agreement=agreement,
    scores=("correct_top1", "correct_top5", "top1_percent", "top5_percent"),
    answer=first_class,
)
