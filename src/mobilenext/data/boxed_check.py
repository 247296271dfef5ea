"""Annotations to checked records: all that is wrong with boxes, sizes and classes is collected, and raised at once.

Some of it stops: a box that is inverted, outside its picture, far beyond it or no numbers, a size that is not the
picture's, a class that is not in the list. A box without width or height is left out, and one that overhangs its
picture stays as it is; `BoxedDataset.left_out` and `BoxedDataset.overhanging` name them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mobilenext.data.annotations import Annotation, NamedBox
from mobilenext.data.boxes import LARGEST_AREA, Box, BoxedImage
from mobilenext.data.image_size import image_size
from mobilenext.data.images import read_image
from mobilenext.errors import ImageError, nearest

LARGEST_SIDE = 10**8  # pixels of a picture; with it boxes and areas are bounded, which float32 must hold
_TOLERANCE = 1.0  # pixels by which a box may overhang: tools count from 0 or from 1, and round


@dataclass
class BoxCheck:
    """Turns annotations into records, and collects sentences on what it notices; they begin with the place."""

    class_names: Sequence[str]  # of the labels 1, 2, 3, ...
    label_of: Mapping[str, int]  # by the name that a box has; without the names of no class
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    overhanging: list[str] = field(default_factory=list)

    def records(self, annotations: Sequence[Annotation]) -> tuple[BoxedImage, ...]:
        """Return a record for each annotation, with the boxes that are in order."""
        return tuple(self._record(index, annotation) for index, annotation in enumerate(annotations))

    def _record(self, index: int, annotation: Annotation) -> BoxedImage:
        size = self._size(annotation)
        boxes = (self._box(annotation, box, size) for box in annotation.objects)
        return BoxedImage(
            index, str(annotation.path), annotation.name, *(size or (0, 0)), tuple(box for box in boxes if box),
            annotation.image_id,
        )  # fmt: skip

    def _size(self, annotation: Annotation) -> tuple[int, int] | None:
        """Return width and height of the picture; None where they are not known, which is a problem."""
        stated = annotation.size
        if stated and max(stated) > LARGEST_SIDE:
            self.problems.append(f"{annotation.source}: it says that a side has more than {LARGEST_SIDE:,} pixels")
            return None
        try:
            actual = image_size(annotation.path)
            if actual is None and stated is None:
                actual = read_image(annotation.path).size
        except (OSError, ImageError) as error:
            self.problems.append(f"{annotation.source}: its picture cannot be read: {error}")
            return stated
        if stated and actual and stated != actual:
            turned = "; one of the two is turned" if stated == actual[::-1] else ""
            self.problems.append(
                f"{annotation.source}: it says {stated[0]} x {stated[1]} pixels, but {annotation.name} has "
                f"{actual[0]} x {actual[1]}{turned}"
            )
        if stated is None and actual and max(actual) > LARGEST_SIDE:
            self.problems.append(f"{annotation.source}: its picture has a side of more than {LARGEST_SIDE:,} pixels")
            return None
        return stated or actual

    def _box(self, annotation: Annotation, box: NamedBox, size: tuple[int, int] | None) -> Box | None:
        """Return the box; None where it is a problem or is left out."""
        x1, y1, x2, y2 = box.corners
        if box.name not in self.label_of:
            near = nearest(box.name, self.class_names)
            self.problems.append(f"{annotation.source}: the class {box.name!r} is not in the list{near}")
        elif not all(map(math.isfinite, box.corners)):
            self.problems.append(f"{_place(annotation, box)} has coordinates that are no numbers")
        elif x2 < x1 or y2 < y1:
            self.problems.append(f"{_place(annotation, box)} is inverted: its right or lower edge comes first")
        elif x2 == x1 or y2 == y1:
            side = "width" if x2 == x1 else "height"
            self.left_out.append(f"{_place(annotation, box)} has no {side} and is left out")
        elif size and (x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0):
            self.problems.append(f"{_place(annotation, box)} is outside the picture of {size[0]} x {size[1]} pixels")
        elif size and (x1 < -size[0] or y1 < -size[1] or x2 > 2 * size[0] or y2 > 2 * size[1]):
            place = f"{_place(annotation, box)} reaches beyond the picture of {size[0]} x {size[1]} pixels"
            self.problems.append(f"{place} by more than the picture's own side")
        elif box.area is not None and not 0 <= box.area <= LARGEST_AREA:
            expected = f"expected 0 to {LARGEST_AREA:.0e} square pixels, or none"
            self.problems.append(f"{_place(annotation, box)} has the area {box.area:g}; {expected}")
        else:
            if size and (min(x1, y1) < -_TOLERANCE or x2 > size[0] + _TOLERANCE or y2 > size[1] + _TOLERANCE):
                place = f"{_place(annotation, box)} reaches beyond the picture of {size[0]} x {size[1]} pixels"
                self.overhanging.append(f"{place} and is kept as it is")
            return Box(box.corners, self.label_of[box.name], box.difficult, box.crowd, box.area)
        return None


def _place(annotation: Annotation, box: NamedBox) -> str:
    return f"{annotation.source}: the box ({', '.join(f'{value:g}' for value in box.corners)}) of {box.name}"
