"""COCO's twelve numbers: average precision and recall over ten overlaps, by size of the boxes and number of detections.

They are computed by faster-coco-eval, a port of pycocotools to C++: ten times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilenext.detection.box_tables import PredictedBoxes, TrueBoxes, Values
from mobilenext.machine.packages import require

COCO_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_SIZES = ("all", "small", "medium", "large")  # areas: all, below 32 x 32 pixels, up to 96 x 96, above
_RECALLS = 101
_LIMITS = (1, 10, 100)  # detections of a class in a picture
# Of each number: precision or recall, the place of its overlap (None: the mean of all), of its size, of its limit.
_NUMBERS: dict[str, tuple[str, int | None, int, int]] = {
    "AP": ("precision", None, 0, 2),
    "AP50": ("precision", 0, 0, 2),
    "AP75": ("precision", 5, 0, 2),
    "APs": ("precision", None, 1, 2),
    "APm": ("precision", None, 2, 2),
    "APl": ("precision", None, 3, 2),
    "AR1": ("recall", None, 0, 0),
    "AR10": ("recall", None, 0, 1),
    "AR100": ("recall", None, 0, 2),
    "ARs": ("recall", None, 1, 2),
    "ARm": ("recall", None, 2, 2),
    "ARl": ("recall", None, 3, 2),
}
COCO_NUMBERS = tuple(_NUMBERS)


def require_library() -> None:
    """Raise MissingDependency where the library is not installed."""
    require(["faster_coco_eval"], "detection", "the average precision of a detector")


@dataclass(frozen=True)
class CocoPrecision:
    """What the library has counted; -1 stands where there is no box."""

    precision: Values  # [10, 101, classes, 4, 3]: overlaps, recalls, classes, sizes, limits
    recall: Values  # [10, classes, 4, 3]

    def numbers(self, category: int | None = None) -> dict[str, float | None]:
        """Return the twelve numbers, shares from 0 to 1, of one class or over all; None where there is no box."""
        numbers = {}
        for name, (quantity, place, size, limit) in _NUMBERS.items():
            # Without recalls there is one of them: [10, 101 or 1, classes]
            counted = self.precision if quantity == "precision" else self.recall[:, None]
            values = counted[:, :, :, size, limit]
            values = values if place is None else values[place : place + 1]
            numbers[name] = _mean(values if category is None else values[:, :, category])
        return numbers

    def by_iou(self, category: int | None = None) -> list[float | None]:
        """Return the average precision at each of `COCO_IOUS`."""
        values = self.precision[:, :, :, 0, 2]  # [10, 101, classes]
        return [_mean(row if category is None else row[:, category]) for row in values]


def _mean(values: Values) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if len(counted) else None


def coco_precision(truth: TrueBoxes, predicted: PredictedBoxes) -> CocoPrecision:
    """Let the library compare the boxes.

    Raises:
        MissingDependency: it is not installed.
    """
    require_library()
    from faster_coco_eval import COCO, COCOeval_faster

    sets = {
        "images": [{"id": number} for number in range(truth.images)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(truth.names)],
    }
    boxes = (_annotations(truth), _results(predicted))
    # Without `print_function` it logs every step.
    evaluator = COCOeval_faster(
        *(COCO({**sets, "annotations": rows}) for rows in boxes), "bbox", print_function=lambda *_: None
    )
    evaluator.evaluate()
    evaluator.accumulate()
    shape = (len(COCO_IOUS), _RECALLS, len(truth.names), len(_SIZES), len(_LIMITS))
    precision, recall = (np.asarray(evaluator.eval[name], np.float64) for name in ("precision", "recall"))
    return CocoPrecision(precision.reshape(shape), recall.reshape(shape[:1] + shape[2:]))


def _annotations(truth: TrueBoxes) -> list[dict[str, Any]]:
    # From 1: COCO's code takes the id 0 of a matched box for "not matched".
    columns = (truth.image, truth.category, truth.boxes, truth.areas, truth.crowd.astype(np.int64))
    return [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}
        for number, (image, category, box, area, crowd) in enumerate(_rows(*columns), 1)
    ]


def _results(predicted: PredictedBoxes) -> list[dict[str, Any]]:
    columns = (predicted.image, predicted.category, predicted.boxes, predicted.scores)
    return [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
         "score": score, "iscrowd": 0}
        for number, (image, category, box, score) in enumerate(_rows(*columns), 1)
    ]  # fmt: skip


def _rows(*columns: Any) -> Any:
    return zip(*(column.tolist() for column in columns), strict=True)
