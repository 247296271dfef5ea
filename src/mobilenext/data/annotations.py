"""What annotations of objects say, before it is checked: the form that all layouts of boxes are read into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class NamedBox:
    """One object with the name of its class."""

    name: str
    corners: tuple[float, float, float, float]  # x1 y1 x2 y2 in pixels of the picture, from 0; unchecked
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Annotation:
    """One picture with its objects."""

    source: str  # where it is written, for messages: a file, or a line of one
    path: Path  # of the picture, which exists
    name: str  # of the picture, relative to the root
    image_id: int | str
    size: tuple[int, int] | None  # width, height; None: not stated
    objects: tuple[NamedBox, ...]


@dataclass
class Annotations:
    """Those of one part of a data set, and what is wrong with them so far."""

    items: list[Annotation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    categories: dict[str, int] | None = None  # COCO's number of each class by its name, in the order of the labels


ReadAnnotations: TypeAlias = Callable[[], Annotations]


@dataclass(frozen=True)
class BoxedLayout:
    """Where the annotations of a data set are."""

    name: str
    parts: Mapping[str, ReadAnnotations]  # by the name of the part; empty: the data set has no parts
    whole: ReadAnnotations | None = None  # everything, where that is more than one part
    lower_case: bool = False  # names of classes count in lower case
    devkit: bool = False  # of VOC, whose parts are called YEAR-NAME
    notes: tuple[str, ...] = ()  # how it was understood, where that is not plain
