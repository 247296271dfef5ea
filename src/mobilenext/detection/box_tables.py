"""Boxes of many pictures as columns, read from COCO's form: those of a ground truth, and a detector's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.data.boxes import LARGEST_COORDINATE
from mobilenext.errors import DataError
from mobilenext.json_files import shown

Values = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrueBoxes:
    """K boxes of a ground truth. `boxes` are x y w h in pixels, and a class is its position in `names`."""

    images: int  # number of pictures, those without boxes among them
    names: tuple[str, ...]  # of the classes
    image: Positions  # [K]
    category: Positions  # [K]
    boxes: Values  # [K, 4]
    areas: Values  # [K]
    difficult: Flags  # [K]
    crowd: Flags  # [K]

    @property
    def ignored(self) -> Flags:
        """Return [K] whether a box counts neither as found nor as missed by the VOC rule."""
        return np.asarray(self.difficult | self.crowd)


@dataclass(frozen=True)
class PredictedBoxes:
    """D boxes of a detector on the pictures and with the classes of some `TrueBoxes`."""

    image: Positions  # [D]
    category: Positions  # [D]
    boxes: Values  # [D, 4] x y w h
    scores: Values  # [D]


def read_ground_truth(ground_truth: Any) -> tuple[TrueBoxes, dict[Any, int], dict[Any, int]]:
    """Return the boxes of a COCO dictionary, and the positions of its image ids and of its category ids.

    Images count in the order of their ids, as in pycocotools, whatever the order of the list.

    Raises:
        DataError: it is no ground truth, or an annotation does not fit the images and categories.
    """
    lists = ("images", "annotations", "categories")
    if not isinstance(ground_truth, Mapping) or any(not _is_list(ground_truth.get(name)) for name in lists):
        what = "a list, as results of a detector are" if _is_list(ground_truth) else shown(ground_truth)
        raise DataError(f"the ground truth is {what}; expected a COCO dictionary with the lists {', '.join(lists)}")
    images = _positions(ground_truth["images"], "image")
    categories = _positions(ground_truth["categories"], "category")
    rows = _records(ground_truth["annotations"], "annotation")
    boxes = _boxes(rows, "annotation")
    truth = TrueBoxes(
        len(images),
        _names(ground_truth["categories"], categories),
        _found(rows, "image_id", images, "annotation"),
        _found(rows, "category_id", categories, "annotation"),
        boxes,
        _numbers(rows, "area", "annotation", lambda place: float(boxes[place, 2] * boxes[place, 3])),
        _flags(rows, "difficult"),
        _flags(rows, "iscrowd"),
    )
    return truth, images, categories


def read_results(detections: Any, images: Mapping[Any, int], categories: Mapping[Any, int]) -> PredictedBoxes:
    """Return the boxes of a list of COCO results.

    Raises:
        DataError: it is no such list, a result is of an image or a category that the ground truth does not have, or a
            number is not finite.
    """
    if not _is_list(detections):
        raise DataError(f"the detections are {shown(detections)}; expected a list of COCO results")
    rows = _records(detections, "result")
    return PredictedBoxes(
        _found(rows, "image_id", images, "result"),
        _found(rows, "category_id", categories, "result"),
        _boxes(rows, "result"),
        _numbers(rows, "score", "result"),
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _records(rows: Sequence[Any], kind: str) -> Sequence[Mapping[str, Any]]:
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"{kind} {place} is {shown(row)}; expected a record")
    return rows


def _positions(rows: Sequence[Any], kind: str) -> dict[Any, int]:
    """Return the ids in order, numbers before texts, with their positions."""
    ids = [row.get("id") for row in _records(rows, kind)]
    for place, number in enumerate(ids):
        if isinstance(number, bool) or not isinstance(number, int | np.integer | str):
            raise DataError(f"{kind} {place} has the id {shown(number)}; expected a whole number or a text")
    ordered = sorted(ids, key=lambda number: (isinstance(number, str), number))
    for number, following in itertools.pairwise(ordered):
        if number == following:
            raise DataError(f"two entries of the ground truth have the {kind} id {number!r}; expected each once")
    return {number: place for place, number in enumerate(ordered)}


def _names(rows: Sequence[Mapping[str, Any]], categories: Mapping[Any, int]) -> tuple[str, ...]:
    """Return the names of the categories in their order; equal names get their ids."""
    name_of = {row["id"]: str(row.get("name", row["id"])) for row in rows}
    names = [name_of[number] for number in categories]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({number})" for number, name in zip(categories, names, strict=True)
    )


def _found(rows: Sequence[Mapping[str, Any]], name: str, positions: Mapping[Any, int], kind: str) -> Positions:
    """Return the position of each row's image or category."""
    places = np.empty(len(rows), np.int64)
    for place, row in enumerate(rows):
        number = row.get(name)
        known = not isinstance(number, bool) and isinstance(number, int | np.integer | str) and number in positions
        if not known:
            raise DataError(
                f"{kind} {place} has the {name} {shown(number)}, which is not among the {len(positions)} of the ground "
                "truth; results and ground truth must have the same ids"
            )
        places[place] = positions[number]
    return places


def _boxes(rows: Sequence[Mapping[str, Any]], kind: str) -> Values:
    """Return [N, 4] x y w h."""
    boxes = np.zeros((len(rows), 4))
    for place, row in enumerate(rows):
        box: Any = row.get("bbox")
        box = box.tolist() if isinstance(box, np.ndarray) else box
        if not _is_list(box) or len(box) != 4 or not all(map(_is_coordinate, box)) or min(box[2:]) < 0:
            raise DataError(
                f"{kind} {place} has the bbox {_text(box)}; expected x, y, width and height, all finite and up to "
                f"{LARGEST_COORDINATE:.0e} pixels"
            )
        boxes[place] = box
    return boxes


def _numbers(
    rows: Sequence[Mapping[str, Any]], name: str, kind: str, default: Callable[[int], float] | None = None
) -> Values:
    numbers = np.zeros(len(rows))
    for place, row in enumerate(rows):
        number = row.get(name)
        if number is None and default is not None:
            number = default(place)
        if not _is_finite(number):
            raise DataError(f"{kind} {place} has the {name} {shown(number)}; expected a finite number")
        numbers[place] = number
    return numbers


def _is_coordinate(number: Any) -> bool:
    return _is_finite(number) and abs(number) <= LARGEST_COORDINATE


def _is_finite(number: Any) -> bool:
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
    try:
        return is_number and math.isfinite(number)
    except OverflowError:  # an integer of many digits
        return False


def _text(box: Any) -> str:
    return str(list(box)) if _is_list(box) and len(box) == 4 else shown(box)


def _flags(rows: Sequence[Mapping[str, Any]], name: str) -> Flags:
    return np.array([bool(row.get(name)) for row in rows], bool)
