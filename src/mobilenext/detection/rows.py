"""What a detector answers for one picture, beside the boxes that are there: a row of the journal and of its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.data.boxes import LARGEST_AREA, BoxedImage
from mobilenext.detection.box_tables import Flags, PredictedBoxes, TrueBoxes, Values
from mobilenext.json_files import Check, Unfit, flag, many, nullable, number, optional, record, text, whole
from mobilenext.models.detector_form import MOST_DETECTIONS

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Truth:
    """The K boxes that are in a picture."""

    boxes: Values  # [K, 4] x1 y1 x2 y2 in pixels of the picture
    labels: Labels  # [K] classes from 1
    difficult: Flags  # [K]
    crowd: Flags  # [K]
    areas: Values  # [K] as the annotation states them

    @classmethod
    def of(cls, image: BoxedImage) -> Truth:
        """Return the boxes of a record of a data set."""
        boxes = np.array([box.corners for box in image.boxes], np.float64).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = [side.prod() if box.area is None else box.area for box, side in zip(image.boxes, sides, strict=True)]
        return cls(
            boxes,
            np.array([box.label for box in image.boxes], np.int64),
            np.array([box.difficult for box in image.boxes], bool),
            np.array([box.crowd for box in image.boxes], bool),
            np.array(areas, np.float64),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as JSON can hold them."""
        return {name: column.tolist() for name, column in vars(self).items()}


@dataclass(frozen=True, eq=False)
class DetectedImage:
    """The D boxes that a detector gives for one picture, the best first."""

    index: int
    path: str
    width: int  # of the picture, as its annotation states it
    height: int
    truth: Truth
    boxes: Values  # [D, 4] x1 y1 x2 y2 in pixels of the picture
    labels: Labels  # [D] classes from 1
    scores: Values  # [D] falling
    error: str | None = None
    bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are stored."""
        columns = {name: getattr(self, name).tolist() for name in ("boxes", "labels", "scores")}
        return {**vars(self), "truth": self.truth.to_dict(), **columns}


def row_of(image: BoxedImage, boxes: Values, labels: Labels, scores: Values, error: str | None = None) -> DetectedImage:
    """Return the row of a record with these boxes, in pixels of its picture."""
    return DetectedImage(
        image.index,
        image.name,
        image.width,
        image.height,
        Truth.of(image),
        boxes,
        labels,
        scores,
        error,
    )


def unreadable_row(image: BoxedImage, problem: str) -> DetectedImage:
    """Return the row of a picture that cannot be read: its boxes are all missed."""
    return row_of(image, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), problem)


# Rows that come back from a file.

_BOX = many(number(), 4)


def _columns(num_classes: int | None, **others: Check) -> dict[str, Check]:
    return {"boxes": many(_BOX), "labels": many(whole(1, num_classes)), **{n: many(c) for n, c in others.items()}}


def _row_fields(num_classes: int | None) -> Check:
    return record(
        {
            "index": whole(0),
            "path": text(),
            **dict.fromkeys(("width", "height"), whole(1)),
            "truth": record(_columns(num_classes, difficult=flag(), crowd=flag(), areas=number(0, LARGEST_AREA))),
            **_columns(num_classes, scores=number(0, 1)),
            "error": nullable(text()),
            "bytes": optional(whole(0)),
        }
    )


def read_row(value: Any, index: int, facts: Mapping[str, Any], image: BoxedImage | None) -> DetectedImage:
    """Return a row from a line of a file.

    Raises:
        Unfit: it is not that of picture number `index`, or not of `image`.
    """
    _row_fields(facts.get("num_classes"))(value, "")
    if value["index"] != index:
        raise Unfit(f"index is {value['index']}; expected {index}")
    truth = value["truth"]
    for columns, name in ((truth, "truth."), (value, "")):
        lengths = {field: len(columns[field]) for field in _lists_of(columns)}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{length} {name}{field}" for field, length in lengths.items())
            raise Unfit(f"{counts}; expected as many of each")
    if len(value["scores"]) > MOST_DETECTIONS:
        raise Unfit(f"scores is a list of {len(value['scores'])}; expected up to {MOST_DETECTIONS}")
    row = DetectedImage(
        index, value["path"], value["width"], value["height"],
        Truth(
            _floats(truth["boxes"], (-1, 4)), np.array(truth["labels"], np.int64), np.array(truth["difficult"], bool),
            np.array(truth["crowd"], bool), _floats(truth["areas"]),
        ),
        _floats(value["boxes"], (-1, 4)), np.array(value["labels"], np.int64), _floats(value["scores"]),
        value["error"], value.get("bytes"),
    )  # fmt: skip
    if image is not None and (row.path, row.truth.labels.tolist()) != (image.name, [box.label for box in image.boxes]):
        raise Unfit(
            f"it is of {row.path!r} with boxes of the classes {row.truth.labels.tolist()}; expected {image.name!r} "
            f"with {[box.label for box in image.boxes]}"
        )
    return row


def _lists_of(columns: Mapping[str, Any]) -> list[str]:
    return [name for name in ("boxes", "labels", "difficult", "crowd", "areas", "scores") if name in columns]


def _floats(values: Sequence[Any], shape: tuple[int, ...] = (-1,)) -> Values:
    return np.array(values, np.float64).reshape(shape)


# Many rows.


def tables_of(rows: Sequence[DetectedImage], names: Sequence[str]) -> tuple[TrueBoxes, PredictedBoxes]:
    """Return the boxes of many rows as columns; picture n is the row at n, and class k the label k + 1."""
    truths = [row.truth for row in rows]
    corners = _joined([truth.boxes for truth in truths], (0, 4))
    truth = TrueBoxes(
        len(rows),
        tuple(names),
        _places([len(truth.labels) for truth in truths]),
        _joined([truth.labels for truth in truths], (0,)).astype(np.int64) - 1,
        with_sides(corners),
        _joined([truth.areas for truth in truths], (0,)),
        _joined([truth.difficult for truth in truths], (0,)).astype(bool),
        _joined([truth.crowd for truth in truths], (0,)).astype(bool),
    )
    predicted = PredictedBoxes(
        _places([len(row.labels) for row in rows]),
        _joined([row.labels for row in rows], (0,)).astype(np.int64) - 1,
        with_sides(_joined([row.boxes for row in rows], (0, 4))),
        _joined([row.scores for row in rows], (0,)),
    )
    return truth, predicted


def with_sides(corners: Values) -> Values:
    """Return boxes x y w h of corners x1 y1 x2 y2, without the rounding errors of the difference."""
    return np.concatenate([corners[:, :2], np.round(corners[:, 2:] - corners[:, :2], 6)], axis=1)


def _joined(columns: Sequence[npt.NDArray[Any]], empty: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(empty), *columns])


def _places(counts: Sequence[int]) -> Labels:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)
