"""Annotations to checked records: all that is wrong with boxes, sizes and classes is collected, and raised at once.

Some of it stops: a box that is inverted, outside its picture or no numbers, a size that is not the picture's, a class
that is not in the list. A box without width or height is left out, and one that overhangs its picture stays as it is;
`BoxedDataset.left_out` and `BoxedDataset.overhanging` name them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mobilenext.data.annotations import Annotation, NamedBox
from mobilenext.data.boxes import Box, BoxedImage
from mobilenext.data.image_size import image_size
from mobilenext.data.images import read_image
from mobilenext.errors import ImageError, nearest

_TOLERANCE = 1.0  # pixels by which a box may overhang: tools count from 0 or from 1, and round


@dataclass
class CheckedBoxes:
    """Records, and what was noticed on the way to them: sentences that begin with the place of an annotation."""

    records: list[BoxedImage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    overhanging: list[str] = field(default_factory=list)


def check_annotations(annotations: Sequence[Annotation], label_of: Mapping[str, int]) -> CheckedBoxes:
    """Return the records of the annotations; `label_of` has the label of each class, from 1, by its name."""
    checked = CheckedBoxes()
    for index, annotation in enumerate(annotations):
        size = _checked_size(annotation, checked)
        boxes = [
            box for box in (_checked_box(annotation, b, size, label_of, checked) for b in annotation.objects) if box
        ]
        width, height = size or (0, 0)
        checked.records.append(
            BoxedImage(index, annotation.path, annotation.name, width, height, tuple(boxes), annotation.image_id)
        )
    return checked


def _checked_size(annotation: Annotation, checked: CheckedBoxes) -> tuple[int, int] | None:
    """Return width and height of the picture; None where they are not known, which is a problem."""
    try:
        actual = image_size(annotation.path)
        if actual is None and annotation.size is None:
            actual = read_image(annotation.path).size
    except (OSError, ImageError) as error:
        checked.problems.append(f"{annotation.source}: its picture cannot be read: {error}")
        return annotation.size
    stated = annotation.size
    if stated and actual and stated != actual:
        turned = "; it was turned after it was annotated, or before" if stated == actual[::-1] else ""
        checked.problems.append(
            f"{annotation.source}: it says {stated[0]} x {stated[1]} pixels, but {annotation.name} has {actual[0]} x "
            f"{actual[1]}{turned}"
        )
    return stated or actual


def _checked_box(
    annotation: Annotation,
    box: NamedBox,
    size: tuple[int, int] | None,
    label_of: Mapping[str, int],
    checked: CheckedBoxes,
) -> Box | None:
    """Return the box; None where it is a problem or is left out."""
    x1, y1, x2, y2 = box.corners
    place = f"{annotation.source}: the box {_shown(box.corners)} of {box.name}"
    label = label_of.get(box.name)
    if label is None:
        checked.problems.append(
            f"{annotation.source}: the class {box.name!r} is not in the list{nearest(box.name, label_of)}"
        )
        return None
    if not all(map(math.isfinite, box.corners)):
        checked.problems.append(f"{place} has coordinates that are no numbers")
    elif x2 < x1 or y2 < y1:
        checked.problems.append(f"{place} is inverted: its right or lower edge comes before the other")
    elif x2 == x1 or y2 == y1:
        checked.left_out.append(f"{place} has no {'width' if x2 == x1 else 'height'}")
    elif size and (x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0):
        checked.problems.append(f"{place} is outside the picture of {size[0]} x {size[1]} pixels")
    else:
        if size and (min(x1, y1) < -_TOLERANCE or x2 > size[0] + _TOLERANCE or y2 > size[1] + _TOLERANCE):
            checked.overhanging.append(f"{place} overhangs the picture of {size[0]} x {size[1]} pixels")
        return Box(box.corners, label, box.difficult, box.crowd, box.area)
    return None


def _shown(corners: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in corners)})"
