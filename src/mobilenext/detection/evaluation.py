"""Detection as the evaluation sees it: data, rows, counts, the fields of a result, and COCO's file of results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.data.boxed_classes import with_box_classes
from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.data.boxes import BoxedDataset, BoxedImage
from mobilenext.detection.answers import OPTIONS, Reading, answer, answer_lines
from mobilenext.detection.coco_precision import COCO_IOUS, require_library
from mobilenext.detection.metrics import NUMBERS, Scores, score
from mobilenext.detection.rows import DetectedImage, read_row, row_of, tables_of, unreadable_row, with_sides
from mobilenext.json_files import Unfit, many, nullable, number, record, text, whole
from mobilenext.models.detector_form import name_of
from mobilenext.sources.prepare import Prepared
from mobilenext.task import Evaluated, Evaluation, Facts, Metric
from mobilenext.weights.record import WeightsRecord

COCO_RESULTS = "coco_results.json"
METRIC = Metric("map", "points", display="mAP", noun="mean average precision", field="map_percent", symbol="%")
# Which of the numbers a form is judged by: the authors publish 11 points for VOC and AP for COCO.
RULES = {"voc": "voc_AP_11_point", "coco": "AP"}


def open_data(
    root: str | os.PathLike[str], *, list_file: str | os.PathLike[str] | None, split: str | None
) -> BoxedDataset:
    """Open a data set of pictures with boxes.

    Raises:
        DatasetError: no layout that is understood, or the problems found in it. UsageError: a list and a split at once.
        MissingDependency: what computes the score is not installed, which should be known before hours of work.
    """
    require_library()
    return open_boxes(root, list_file=list_file, split=split)


def fit_data(dataset: BoxedDataset, prepared: Prepared) -> BoxedDataset:
    """Give every box the network's number of its class.

    Raises:
        DatasetError: a class that the network does not have.
    """
    return with_box_classes(dataset, prepared.record.num_classes, prepared.record.labels)


def data_warnings(dataset: BoxedDataset, network: WeightsRecord) -> list[str]:
    """Return sentences on boxes that were left out and, unless a limit is the reason, on classes without boxes."""
    warnings = dataset.warnings()
    if len(dataset) < dataset.total:
        return warnings
    present = {box.label for image in dataset.records for box in image.boxes}
    names = _names(network.num_classes, network.labels)
    if missing := [name for label, name in enumerate(names, 1) if label not in present]:
        shown = ", ".join(missing[:10]) + ", ..." * (len(missing) > 10)
        warnings.append(
            f"{len(missing)} of {len(names)} classes have no boxes in these images, and no part in the mean: {shown}"
        )
    return warnings


def facts(network: WeightsRecord, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the outputs are read. Boxes are not clipped unless it is asked for, as published scores are computed.

    Raises:
        UsageError: the preprocessing is not that of a detector.
    """
    return {"num_classes": network.num_classes, **Reading.of_network(network, options, clip=False).to_facts()}


def rows(outputs: Outputs, records: Sequence[BoxedImage], facts: Facts) -> list[DetectedImage]:
    """Return the row of each record from raw scores [N, P, C] and regressions [N, P, 4].

    Raises:
        WeightsError: outputs that are not finite.
    """
    sizes = [(image.width, image.height) for image in records]
    boxes = Reading.of_facts(facts).boxes(outputs, sizes)
    return [row_of(image, *columns) for image, columns in zip(records, boxes, strict=True)]


class DetectionCounts:
    """All rows: average precision is no sum. They are put in order before anything is counted."""

    correct = None  # no running share

    def __init__(self, facts: Facts) -> None:
        self.images = 0
        self.rows: list[DetectedImage] = []
        self._facts = facts

    def add(self, row: DetectedImage) -> None:
        """Keep one row."""
        self.images += 1
        self.rows.append(row)

    def to_bytes(self) -> bytes:
        """Return the rows as lines of JSON."""
        return b"\n".join(json.dumps(row.to_dict()).encode() for row in self.rows)

    def merge(self, parts: Sequence[bytes]) -> None:
        """Become the rows of all processes, in the order of the data."""
        values = [json.loads(line) for part in parts for line in part.splitlines()]
        values.sort(key=lambda value: int(value["index"]))
        self.rows = [read_row(value, value["index"], self._facts, None) for value in values]
        self.images = len(self.rows)

    def scores(self, names: Sequence[str] | None = None) -> Scores:
        """Return the scores of all rows."""
        ordered = sorted(self.rows, key=lambda row: row.index)
        return score(*tables_of(ordered, _names(self._facts["num_classes"], names)))

    def summary(self) -> dict[str, Any]:
        """Return numbers of boxes and the scores, as a validation stores them."""
        return _summary(self.scores(), rule_of(self._facts), self.images)


def rule_of(facts: Facts) -> str:
    """Return which of the `NUMBERS` a network of this form is judged by."""
    return RULES[name_of(Reading.of_facts(facts).form)]


def _names(num_classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(names) if names else tuple(str(label) for label in range(1, num_classes + 1))


def _summary(scores: Scores, rule: str, images: int) -> dict[str, Any]:
    truth = scores.matching.truth
    numbers = _rounded(scores.numbers())
    value = numbers[rule]
    return {
        "images": images,
        "objects": int((~truth.ignored).sum()),  # that count in VOC's numbers
        "difficult": int(truth.difficult.sum()),
        "crowds": int(truth.crowd.sum()),
        "detections": len(scores.matching.predicted.scores),
        "map_percent": None if value is None else round(100 * value, 3),
        "map_rule": rule,
        **numbers,
    }


def _rounded(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in numbers.items()}


def result(evaluated: Evaluated) -> dict[str, Any]:
    """Return the scores over all classes, of each class, and at each overlap: shares from 0 to 1."""
    network, counts = evaluated.prepared.record, evaluated.counts
    names = _names(network.num_classes, network.labels)
    scores = counts.scores(names)
    matching, curves = scores.matching, scores.curves
    truth = matching.truth
    per_class = []
    for category, (name, curve) in enumerate(zip(names, curves, strict=True)):
        of_class = truth.category == category
        per_class.append(
            {
                "class": category + 1,
                "name": name,
                "images": len(np.unique(truth.image[of_class])),
                "objects": curve.positives,
                "difficult": int((of_class & truth.difficult).sum()),
                "crowds": int((of_class & truth.crowd).sum()),
                "detections": int((matching.predicted.category == category).sum()),
                "found": curve.right,  # at an overlap of 0.5, whatever the score
                "balance": curve.balance,
                **_rounded(scores.numbers(category)),
                "AP_by_iou": _shares(scores.coco.by_iou(category)),
            }
        )
    return {
        **_summary(scores, rule_of(network_facts(evaluated)), counts.images),
        "ious": list(COCO_IOUS),
        "AP_by_iou": _shares(scores.coco.by_iou()),
        "per_class": per_class,
        "class_names": list(network.labels) if network.labels else None,
    }


def network_facts(evaluated: Evaluated) -> dict[str, Any]:
    """Return the facts of the network without any options, which do not change its form's rule."""
    return facts(evaluated.prepared.record, {})


def _shares(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in values]


_SHARE = nullable(number(0, 1))
_NUMBERS = {
    **dict.fromkeys(("objects", "difficult", "crowds", "detections"), whole(0)),
    **dict.fromkeys(NUMBERS, _SHARE),
}
# Of a validation, and of a result.
SUMMARY_FIELDS = {
    "images": whole(1),
    "map_percent": nullable(number(0, 100)),
    "map_rule": text(*RULES.values()),
    **_NUMBERS,
}
_PER_CLASS = {
    "class": whole(1),
    "name": text(),
    **dict.fromkeys(("images", "found"), whole(0)),
    "balance": nullable(record(dict.fromkeys(("score", "precision", "recall", "f1"), number(0, 1)))),
    **_NUMBERS,
    "AP_by_iou": many(_SHARE, len(COCO_IOUS)),
}
_RESULT = record(
    {
        **SUMMARY_FIELDS,
        "num_classes": whole(1),
        "architecture": record({"form": record({})}),
        "unreadable": whole(0),
        "ious": many(number(0, 1), len(COCO_IOUS)),
        "AP_by_iou": many(_SHARE, len(COCO_IOUS)),
        "per_class": many(record(_PER_CLASS)),
        "class_names": nullable(many(text())),
    }
)


def check_result(value: Any, field: str) -> None:
    """Check the fields of a result, and that its rows are of the classes 1, 2, 3, ...

    Raises:
        Unfit: a field is missing or is not what it should be.
    """
    _RESULT(value, field)
    classes = [row["class"] for row in value["per_class"]]
    if classes != list(range(1, value["num_classes"] + 1)):
        raise Unfit(f"per_class has {len(classes)} rows; expected the classes 1 to {value['num_classes']} in order")


def files(evaluated: Evaluated) -> dict[str, bytes]:
    """Return the detections as COCO's tools read them, with the ids of the data set."""
    dataset: Any = evaluated.dataset
    categories = dataset.category_ids or tuple(range(1, evaluated.prepared.record.num_classes + 1))
    results = [
        {"image_id": image.image_id, "category_id": categories[label - 1], "bbox": box, "score": value}
        for image, row in zip(dataset.records, evaluated.rows, strict=True)
        for box, label, value in zip(
            with_sides(row.boxes).tolist(), row.labels.tolist(), row.scores.tolist(), strict=True
        )
    ]
    return {COCO_RESULTS: (json.dumps(results) + "\n").encode()}


EVALUATION = Evaluation(
    open_data=open_data,
    fit_data=fit_data,
    warnings=data_warnings,
    facts=facts,
    rows=rows,
    unreadable=unreadable_row,
    read_row=read_row,
    counts=DetectionCounts,
    result=result,
    result_fields=check_result,
    answer=answer,
    answer_lines=answer_lines,
    options=OPTIONS,
    files=files,
)
