"""The form of a detector: everything that turns its raw outputs into boxes, and boxes into targets.

A form is plain data. It is stored with the weights and in the sidecar of an export. The two named forms are the
authors' (configuration files of their SSDLite repository): ``voc`` learns by softmax with hard negatives, ``coco`` by
focal loss.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any

from mobilenext.data.preprocessing import OPENCV_LINEAR, Preprocessing
from mobilenext.errors import UsageError, nearest

LOSSES = ("multibox", "focal")
LEVELS = 6
MOST_RATIOS = 8  # of a level: a form comes from files of strangers, and decides how large a network is
STANDARD_SIZE = 320  # pixels: the input that the named forms are made for
SMALLEST_SIZE, LARGEST_SIZE = 224, 512
MOST_DETECTIONS = 10_000  # of a picture
MEAN_COLOR = (123, 117, 104)  # of R, G, B: rounded by the authors; also fills the canvas around a smaller picture
_LONGEST_SHOWN = 200  # characters of a wrong value in a message
# Distances of the cells' centers at 320 pixels. With three cells, 120 spans more than the picture, as the authors have.
_STANDARD_STRIDES = (16.0, 32.0, 64.0, 120.0, 160.0, 320.0)

PriorSizes = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a detector's outputs are read.

    Raises:
        UsageError: a value outside its range.
    """

    loss: str  # one of LOSSES: multibox is read by softmax, focal by sigmoid
    image_size: int = STANDARD_SIZE  # pixels, side of the square input
    prior_sizes: PriorSizes = ()  # smallest and largest side of the priors of each level, in pixels of the input
    ratios: tuple[tuple[float, ...], ...] = ((2, 3),) * LEVELS  # aspect ratios of each level, beside 1
    score_threshold: float = 0.01  # a class of a prior with a higher score is a candidate
    iou_threshold: float = 0.45  # a candidate that overlaps a better one of its class by more is suppressed
    limit: int = 100  # the largest number of boxes of a picture, up to MOST_DETECTIONS

    def __post_init__(self) -> None:
        self._require("loss", self.loss in LOSSES, f"{' or '.join(LOSSES)}{nearest(str(self.loss), LOSSES)}")
        self._require_whole("image_size", SMALLEST_SIZE, LARGEST_SIZE, "a whole number of pixels")
        self._require_whole("limit", 1, MOST_DETECTIONS, "a whole number")
        size = self.image_size
        if not self.prior_sizes:
            standard = (VOC_SIZES, COCO_SIZES)[self.loss == "focal"]
            object.__setattr__(self, "prior_sizes", _scaled(standard, size / STANDARD_SIZE))
        for name in ("prior_sizes", "ratios"):
            rows = getattr(self, name)
            expected = f"{LEVELS} rows of up to {MOST_RATIOS} numbers above 0, one for each level"
            self._require(name, _are_rows(rows), expected)
            object.__setattr__(self, name, tuple(tuple(map(float, row)) for row in rows))
        pairs = all(len(pair) == 2 and pair[0] <= pair[1] for pair in self.prior_sizes)
        self._require("prior_sizes", pairs, f"{LEVELS} pairs: the smallest side and a largest that is not below it")
        for name in ("score_threshold", "iou_threshold"):
            self._require(name, _is_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1, "from 0 to 1")
            object.__setattr__(self, name, float(getattr(self, name)))  # of NumPy's kinds too, which JSON cannot hold

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{name} of the form is {_shown(getattr(self, name))}; expected {expected}")

    def _require_whole(self, name: str, least: int, most: int, kind: str) -> None:
        value = getattr(self, name)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        self._require(name, whole and least <= value <= most, f"{kind} from {least} to {most}")
        object.__setattr__(self, name, int(value))

    @property
    def sides(self) -> tuple[int, ...]:
        """Return the number of cells on a side of each level: each level has half of the one before, rounded up."""
        side, sides = self.image_size, []
        for _ in range(4):  # the strides of the backbone before the first level
            side = math.ceil(side / 2)
        for _ in range(LEVELS):
            sides.append(side)
            side = math.ceil(side / 2)
        return tuple(sides)

    @property
    def strides(self) -> tuple[float, ...]:
        """Return the distance of two cells of each level, in pixels of the input."""
        if self.image_size == STANDARD_SIZE:
            return _STANDARD_STRIDES
        return tuple(self.image_size / side for side in self.sides)

    @property
    def priors_per_cell(self) -> tuple[int, ...]:
        """Return the number of priors in a cell of each level: two squares, and two rectangles for each ratio."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)

    @property
    def priors(self) -> int:
        """Return the number of priors P."""
        return sum(count * side**2 for count, side in zip(self.priors_per_cell, self.sides, strict=True))

    def replace(self, **values: Any) -> Form:
        """Return a copy with other values; another `image_size` scales the priors where `prior_sizes` is not given.

        Raises:
            UsageError: no such field, or a value outside its range.
        """
        known = [field.name for field in dataclasses.fields(Form)]
        for name in values:
            if name not in known:
                raise UsageError(f"a form has no {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        size = values.get("image_size", self.image_size)
        if size != self.image_size and not values.get("prior_sizes") and _is_number(size):
            values["prior_sizes"] = _scaled(self.prior_sizes, float(size) / self.image_size)
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it; `from_dict` returns an equal one."""
        rows = {name: [list(row) for row in getattr(self, name)] for name in ("prior_sizes", "ratios")}
        return dataclasses.asdict(self) | rows

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Form:
        """Return the record of the keys that `to_dict` writes.

        Raises:
            UsageError: a key too many or too few, or a value outside its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if values.keys() != known:
            names = _shortened(", ".join(sorted(map(str, values))))
            raise UsageError(f"a form has the fields {', '.join(sorted(known))}; found {names or 'none'}")
        return cls(**values)


def _scaled(sizes: Sequence[tuple[float, float]], factor: float) -> PriorSizes:
    return tuple((smallest * factor, largest * factor) for smallest, largest in sizes)


def _is_number(value: object) -> bool:
    """Return whether it is a number, of Python's kinds or NumPy's, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer of hundreds of digits
        return False


def _shown(value: object) -> str:
    """Return a value for a message, which is not filled by it."""
    try:
        return _shortened(repr(value))
    except ValueError:
        return "a number of thousands of digits"  # which Python does not write


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _are_rows(rows: object) -> bool:
    """Return whether these are a row of numbers for each level."""
    if not isinstance(rows, Sequence) or isinstance(rows, str) or len(rows) != LEVELS:
        return False
    return all(
        isinstance(row, Sequence)
        and not isinstance(row, str)
        and len(row) <= MOST_RATIOS
        and all(_is_number(value) and value > 0 for value in row)
        for row in rows
    )


VOC_SIZES: PriorSizes = ((45, 120), (90, 180), (135, 220), (180, 260), (225, 300), (270, 320))
COCO_SIZES: PriorSizes = ((45, 90), (90, 135), (135, 180), (180, 225), (225, 270), (270, 315))
FORMS: Mapping[str, Form] = {
    "voc": Form(loss="multibox"),
    "coco": Form(loss="focal", ratios=((2, 3),) * 5 + ((2,),), score_threshold=0.05, iou_threshold=0.5),
}


def find_form(form: str | Form | Mapping[str, Any]) -> Form:
    """Return the form of this name, the record itself, or the record of what `Form.to_dict` gave: that of a sidecar.

    Raises:
        UsageError: no such form.
    """
    if isinstance(form, Form):
        return form
    if isinstance(form, Mapping):
        return Form.from_dict(form)
    if not isinstance(form, str) or form not in FORMS:
        near = nearest(form, FORMS) if isinstance(form, str) else ""
        raise UsageError(
            f"unknown form {_shown(form)}{near}; known: {', '.join(FORMS)}, a Form, or a mapping of its fields as "
            "Form.to_dict returns it"
        )
    return FORMS[form]


def name_of(form: Form) -> str:
    """Return the name of the form whose loss this is, voc or coco."""
    return "coco" if form.loss == "focal" else "voc"


@cache
def detection_preprocessing(image_size: int = STANDARD_SIZE) -> Preprocessing:
    """Return the preprocessing of a detector with this input size: squashed, and the authors' mean and deviation."""
    red, green, blue = (value / 255 for value in MEAN_COLOR)
    return Preprocessing(image_size, crop_pct=1.0, interpolation=OPENCV_LINEAR, mean=(red, green, blue), fit="squash")
