"""One annotation file of Pascal VOC's form, read within bounds: no document type, no entities, no deep nesting.

Coordinates count from 1 there, and from 0 here: 1 is subtracted from all four, as the reference pipelines do for
training and for evaluation. A tool that counts from 0 so gets boxes that begin at -1, as with those pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from mobilenext.data.annotations import NamedBox
from mobilenext.files import FileProblem, read_bounded

LARGEST = 4 << 20  # bytes of a file; VOC's largest has 20 kB
MOST_OBJECTS = 20_000  # of a picture; VOC has up to 56
_DEEPEST = 16  # elements in each other; VOC has up to 5
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FIELDS = frozenset({"name", "difficult", *(f"bndbox/{corner}" for corner in _CORNERS)})


class XmlProblem(Exception):
    """What is wrong with a file."""


@dataclass
class VocFile:
    """What an annotation file says."""

    filename: str = ""  # of the picture
    size: tuple[int, int] | None = None
    objects: list[NamedBox] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of objects that cannot be read


def read_voc_file(path: Path) -> VocFile:
    """Read the size of the picture and its objects.

    Raises:
        XmlProblem: no file, one that is too large, or no XML of this kind.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would make this wait
            raise XmlProblem("this is no file; expected the annotation of one picture")
        content = read_bounded(path, LARGEST, "the annotation of one picture")
    except (FileProblem, OSError, ValueError) as problem:
        raise XmlProblem(str(problem)) from problem
    reader = _Reader()
    reader.parse(content)
    return _to_file(reader)


class _Reader:
    """Collects the texts of the fields that are needed, by their paths below the outermost element."""

    def __init__(self) -> None:
        self.root = ""
        self.fields: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self._path: list[str] = []
        self._text: list[str] = []

    def parse(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        # Entities can only be declared in a document type, so without one none is ever expanded.
        parser.StartDoctypeDeclHandler = _refuse_document_type
        parser.buffer_text = True
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            what = "empty" if not content.strip() else f"no XML ({expat.ErrorString(error.code)}, line {error.lineno})"
            raise XmlProblem(what) from error
        except (LookupError, ValueError) as error:  # an encoding that is not known
            raise XmlProblem(f"no XML that can be read ({error}); save it as UTF-8") from error

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        self._path.append(name)
        self._text.clear()
        if len(self._path) == 1:
            self.root = name
        if len(self._path) > _DEEPEST:
            raise XmlProblem(f"elements are nested deeper than {_DEEPEST} levels")
        if self._path[1:] == ["object"]:
            if len(self.objects) == MOST_OBJECTS:
                raise XmlProblem(f"more than {MOST_OBJECTS:,} objects; expected the annotation of one picture")
            self.objects.append({})

    def _end(self, _: str) -> None:
        place = "/".join(self._path[1:])
        text = "".join(self._text).strip()
        if place in ("filename", "size/width", "size/height"):
            self.fields[place] = text
        elif place.startswith("object/") and (inner := place.removeprefix("object/")) in _FIELDS:
            self.objects[-1][inner] = text
        self._path.pop()
        self._text.clear()


def _refuse_document_type(*_: object) -> NoReturn:
    raise XmlProblem("it declares a document type, which annotations do not need and which is not read; remove it")


def _to_file(reader: _Reader) -> VocFile:
    if not reader.root.lower().startswith("annotation"):
        raise XmlProblem(f"its outermost element is {reader.root[:40]!r}; expected 'annotation'")
    file = VocFile(reader.fields.get("filename", ""))
    if "size/width" in reader.fields or "size/height" in reader.fields:
        texts = [reader.fields.get(f"size/{side}", "") for side in ("width", "height")]
        sides = [_number(text) for text in texts]
        if not all(side is not None and side >= 0 and side == int(side) for side in sides):
            raise XmlProblem(f"its size is {' x '.join(map(repr, texts))}; expected width and height in pixels")
        width, height = (int(side) for side in sides if side is not None)
        file.size = (width, height) if width and height else None  # some tools write 0 for what they do not know
    for number, fields in enumerate(reader.objects, start=1):
        try:
            file.objects.append(_to_box(fields))
        except XmlProblem as problem:
            file.problems.append(f"object {number}{_called(fields)}: {problem}")
    return file


def _called(fields: Mapping[str, str]) -> str:
    return f" ({fields['name'][:40]})" if fields.get("name") else ""


def _to_box(fields: Mapping[str, str]) -> NamedBox:
    if not fields.get("name"):
        raise XmlProblem("it has no name; expected that of its class")
    texts = [fields.get(f"bndbox/{corner}") for corner in _CORNERS]
    if all(text is None for text in texts):
        raise XmlProblem("it has no bndbox; expected xmin, ymin, xmax and ymax")
    corners = [_number(text or "") for text in texts]
    for name, text, value in zip(_CORNERS, texts, corners, strict=True):
        if value is None:
            raise XmlProblem(f"{name} is {'missing' if text is None else repr(text[:40])}; expected a number of pixels")
    x1, y1, x2, y2 = (value - 1 for value in corners if value is not None)
    difficult = _number(fields.get("difficult") or "0")
    if difficult not in (0, 1):
        raise XmlProblem(f"difficult is {fields['difficult'][:40]!r}; expected 0 or 1")
    return NamedBox(fields["name"], (x1, y1, x2, y2), difficult == 1)


def _number(text: str) -> float | None:
    """Return the number that a text stands for, as in 45 and 45.0; None for another text, NaN and infinity."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
