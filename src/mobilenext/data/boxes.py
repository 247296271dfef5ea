"""Images with boxes: the records of a detection data set, in whatever layout it lies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenext.data.records import Dataset, Record

LARGEST_COORDINATE = 1e9  # pixels
LARGEST_AREA = 1e18  # square pixels


@dataclass(frozen=True)
class Box:
    """One object of a picture."""

    corners: tuple[float, float, float, float]  # x1 y1 x2 y2 in pixels of the picture, from 0
    label: int  # class, from 1
    difficult: bool = False  # VOC: not trained on, and neither right nor wrong in its score
    crowd: bool = False  # COCO: the same for a group of objects
    area: float | None = None  # that the annotation states; None: that of the box


@dataclass(frozen=True, slots=True)
class BoxedImage(Record):
    """One image with the objects in it."""

    width: int  # pixels, as the annotation states it
    height: int
    boxes: tuple[Box, ...]
    image_id: int | str  # of the annotation: COCO's number, VOC's name

    def line(self) -> str:
        boxes = [[*box.corners, box.label, box.difficult, box.crowd, box.area] for box in self.boxes]
        return "\0".join((self.name, str(self.width), str(self.height), str(self.image_id), json.dumps(boxes)))

    def trained_boxes(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return corners [K, 4] and labels [K] of the boxes that are trained on: neither difficult nor crowd."""
        boxes = [box for box in self.boxes if not (box.difficult or box.crowd)]
        corners = np.array([box.corners for box in boxes], np.float32).reshape(-1, 4)
        return corners, np.array([box.label for box in boxes], np.int64)


@dataclass(frozen=True)
class BoxedDataset(Dataset):
    """Images with boxes; `class_names` has the name of label k at k - 1."""

    records: tuple[BoxedImage, ...]
    category_ids: tuple[int, ...] | None = None  # COCO's number of each class; None: 1, 2, 3, ...
    left_out: tuple[str, ...] = ()  # a sentence on each box without width or height, which is in no record
    overhanging: tuple[str, ...] = ()  # a sentence on each box that overhangs its picture, and stays as it is

    def with_records(self, records: Sequence[BoxedImage]) -> BoxedDataset:
        """Return the data set with some of its records, numbered anew."""
        numbered = tuple(dataclasses.replace(record, index=index) for index, record in enumerate(records))
        return dataclasses.replace(self, records=numbered, total=len(numbered))

    def warnings(self) -> list[str]:
        """Return sentences on boxes that were left out and on boxes that overhang, with their number."""
        return [
            f"{len(sentences):,} box{'es' * (len(sentences) > 1)} {what}: {'; '.join(sentences[:3])}"
            f"{'; ...' * (len(sentences) > 3)}"
            for sentences, what in (
                (self.left_out, "without width or height"),
                (self.overhanging, "beyond the edge of the picture"),
            )
            if sentences
        ]
