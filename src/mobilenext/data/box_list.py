"""A list of boxes: a table with a line for each, or pictures with the XML files of their objects.

    image,xmin,ymin,xmax,ymax,class          the columns in any order where a first line names them, else in this one;
    photos/1.jpg,10,20,110,220,cat           other columns are ignored but width and height, the picture's size
    photos/2.jpg,,,,,                        a picture without objects

    photos/1.jpg annotations/1.xml           annotations as Pascal VOC's (`mobilenext.data.voc_xml`)

Columns are separated by commas, semicolons or tabs. Corners are in pixels from 0. Names are looked up as in other lists
(`mobilenext.data.list_finder`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mobilenext.data.annotations import Annotation, Annotations, BoxedLayout, NamedBox, ReadAnnotations
from mobilenext.data.list_finder import Finder, NotFound
from mobilenext.data.list_text import read_lines
from mobilenext.data.parts import PARTS, find_list
from mobilenext.data.voc_xml import XmlProblem, read_voc_file
from mobilenext.errors import DatasetError

_COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "image_path", "img", "img_path", "image_name", "name"),
    "xmin": ("xmin", "x1", "x_min", "left"),
    "ymin": ("ymin", "y1", "y_min", "top"),
    "xmax": ("xmax", "x2", "x_max", "right"),
    "ymax": ("ymax", "y2", "y_max", "bottom"),
    "class": ("class", "class_name", "label", "category", "class_label", "object"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_PLAIN = ("image", *_CORNERS, "class")
_EXPECTED = "expected an image, xmin, ymin, xmax, ymax and a class on each line, or an image and its XML file"
_LONGEST_FIELD = 131_072  # characters, the limit of Python's csv


def find_box_lists(root: Path, folder: Path) -> BoxedLayout | None:
    """Return the lists of boxes in `folder` as parts: train.csv, val_list.txt, ...; None where there is none."""
    parts: dict[str, ReadAnnotations] = {}
    for part in PARTS:
        path = find_list(folder, part)
        if path is not None and is_box_list(path):
            parts[part] = partial(read_box_list, root, path)
    return BoxedLayout("box-list", parts) if parts else None


def is_box_list(path: Path) -> bool:
    """Return whether the first line of a list is that of boxes."""
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8-sig", "replace").strip()
    pair = first.split()
    if len(pair) == 2 and pair[1].lower().endswith(".xml"):
        return True
    columns = _cells(first, _delimiter(first))
    return _header(columns) is not None or (len(columns) == len(_PLAIN) and all(map(_is_corner, columns[1:5])))


def _is_corner(cell: str) -> bool:
    return not cell or _number(cell) is not None


def read_box_list(root: Path, path: Path) -> Annotations:
    """Read a list; names of pictures are relative to `root`.

    Raises:
        DatasetError: a list that cannot be read, or is none of boxes.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
    if not lines:
        raise DatasetError(f"{path}: the list is empty; {_EXPECTED}")
    pair = lines[0][1].split()
    if len(pair) == 2 and pair[1].lower().endswith(".xml"):
        return _read_pairs(root, path, lines)
    return _read_table(root, path, lines)


def _read_pairs(root: Path, path: Path, lines: Sequence[tuple[int, str]]) -> Annotations:
    finder, annotations = Finder(root, path), Annotations()
    for number, line in lines:
        place = f"{path.name}: line {number}"
        names = line.split()
        try:
            if len(names) != 2:
                raise NotFound("expected an image and its XML file")
            picture, name = finder.find(names[0])
            xml, _ = finder.find(names[1])
            file = read_voc_file(Path(xml))
        except (NotFound, XmlProblem) as problem:
            annotations.problems.append(f"{place}: {line[:80]}: {problem}")
            continue
        annotations.problems += [f"{names[1]}: {problem}" for problem in file.problems]
        annotations.items.append(Annotation(names[1], Path(picture), name, name, file.size, tuple(file.objects)))
    annotations.notes = finder.notes()
    return annotations


@dataclass
class _Picture:
    """What the lines of one picture say."""

    path: Path
    name: str
    line: int
    size: tuple[int, int] | None = None
    boxes: list[NamedBox] = field(default_factory=list)


class _LineProblem(Exception):
    """What is wrong with a line."""


def _read_table(root: Path, path: Path, lines: Sequence[tuple[int, str]]) -> Annotations:
    delimiter = _delimiter(lines[0][1])
    columns = _header(_cells(lines[0][1], delimiter))
    if columns is None:
        columns = {name: place for place, name in enumerate(_PLAIN)}
    else:
        lines = lines[1:]
    finder, annotations = Finder(root, path), Annotations()
    pictures: dict[str, _Picture] = {}
    for number, line in lines:
        cells = [cell.strip() for cell in _cells(line, delimiter)]
        cells += [""] * (max(columns.values()) + 1 - len(cells))
        row = {name: cells[place] for name, place in columns.items()}
        try:
            file, name = finder.find(row["image"])
            picture = pictures.setdefault(file, _Picture(Path(file), name, number))
            _add(picture, row)
        except (NotFound, _LineProblem) as problem:
            annotations.problems.append(f"{path.name}: line {number}: {line[:80]}: {problem}")
    annotations.items = [
        Annotation(f"{path.name}: line {p.line}", p.path, p.name, p.name, p.size, tuple(p.boxes))
        for p in pictures.values()
    ]
    annotations.notes = finder.notes()
    return annotations


def _add(picture: _Picture, row: dict[str, str]) -> None:
    """Add what a line says to its picture."""
    if row.get("width") and row.get("height"):
        sides = [_number(row[side]) for side in ("width", "height")]
        if not all(side is not None and 0 < side < math.inf and side == int(side) for side in sides):
            raise _LineProblem(f"the size {row['width']!r} x {row['height']!r}; expected width and height in pixels")
        size = (int(sides[0] or 0), int(sides[1] or 0))
        if picture.size not in (None, size):
            raise _LineProblem(f"the size {size} is not that of line {picture.line}")
        picture.size = size
    texts = [row[corner] for corner in _CORNERS]
    if not any(texts) and not row["class"]:
        return
    values = [_number(text) for text in texts]
    for name, text, value in zip(_CORNERS, texts, values, strict=True):
        if value is None:
            raise _LineProblem(f"{name} is {text!r}; {_EXPECTED}")
    if not row["class"]:
        raise _LineProblem("the class is missing")
    x1, y1, x2, y2 = (value for value in values if value is not None)
    picture.boxes.append(NamedBox(row["class"], (x1, y1, x2, y2)))


def _delimiter(line: str) -> str:
    return max("\t;,", key=line.count)


def _cells(line: str, delimiter: str) -> list[str]:
    if len(line) > _LONGEST_FIELD:
        raise DatasetError(f"a line of {len(line):,} characters; {_EXPECTED}")
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _header(cells: Sequence[str]) -> dict[str, int] | None:
    """Return the places of the columns by the first line; None where it names none."""
    names = [cell.strip().lower().replace(" ", "_") for cell in cells]
    columns = {
        column: min(names.index(word) for word in words if word in names)
        for column, words in _COLUMNS.items()
        if any(word in names for word in words)
    }
    return columns if all(name in columns for name in _PLAIN) else None


def _number(text: str) -> float | None:
    """Return a number, NaN and infinity among them; None for another text."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
