"""The scores of a detector: COCO's twelve numbers and the two of PASCAL VOC, over all classes and of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mobilenext.detection.box_tables import PredictedBoxes, TrueBoxes, read_ground_truth, read_results
from mobilenext.detection.coco_precision import COCO_NUMBERS, CocoPrecision, coco_precision
from mobilenext.detection.voc_precision import Curve, Matching, match

VOC_NUMBERS = ("voc_AP_11_point", "voc_AP_area")
NUMBERS = (*COCO_NUMBERS, *VOC_NUMBERS)


@dataclass(frozen=True)
class Scores:
    """Detections that have been compared with a ground truth by both rules."""

    coco: CocoPrecision
    matching: Matching  # by the rule of VOC

    @cached_property
    def curves(self) -> list[Curve]:
        """Return the curve of each class, at the overlap of VOC."""
        return self.matching.curves()

    def numbers(self, category: int | None = None) -> dict[str, float | None]:
        """Return the `NUMBERS` of one class, or over all; None where there is no box to be found."""
        curves = self.curves if category is None else [self.curves[category]]
        means = [_mean([getattr(curve, name) for curve in curves]) for name in ("eleven_points", "area")]
        return self.coco.numbers(category) | dict(zip(VOC_NUMBERS, means, strict=True))


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def score(truth: TrueBoxes, predicted: PredictedBoxes) -> Scores:
    """Compare detections with a ground truth.

    Raises:
        MissingDependency: faster-coco-eval is not installed.
    """
    return Scores(coco_precision(truth, predicted), match(truth, predicted))


def average_precision(ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the average precision and recall of detections, by the rules of COCO and of PASCAL VOC.

        numbers = mobilenext.detection.average_precision(json.load(open("instances_val2017.json")), results)
        numbers["AP"], numbers["per_class"]["person"]["AP50"]

    Args:
        ground_truth: a COCO dictionary with ``images``, ``annotations`` and ``categories``.
        detections: COCO results, a record of ``image_id``, ``category_id``, ``bbox`` (x y w h) and ``score`` each.

    Returns:
        Shares from 0 to 1, None where there is no box to be found: ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``,
        ``APl``, ``AR1``, ``AR10``, ``AR100``, ``ARs``, ``ARm`` and ``ARl``, as pycocotools computes them, which
        ignores crowds; ``voc_AP_11_point`` and ``voc_AP_area``, at an overlap of 0.5 with inclusive pixels, which
        ignore boxes with ``difficult: 1`` as well. The same for each class by its name under ``per_class``.

    Raises:
        DataError: the ground truth or the detections are not of these forms, or do not belong together.
        MissingDependency: faster-coco-eval is not installed.
    """
    truth, images, categories = read_ground_truth(ground_truth)
    scores = score(truth, read_results(detections, images, categories))
    per_class = {name: scores.numbers(category) for category, name in enumerate(truth.names)}
    return scores.numbers() | {"per_class": per_class}
