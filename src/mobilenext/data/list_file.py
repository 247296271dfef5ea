"""A list file of images and labels, read strictly.

A line is an image's name and its label, an integer from 0, as in ``val_1.JPEG 65``, or a class name. Which other lines
and tables are read is told in `mobilenext.data.list_rows`, where and how names are looked up in
`mobilenext.data.list_finder`, encodings in `mobilenext.data.list_text`. Blank lines do not count, nor do comments,
which begin with # and name no file. Class names get the labels 0, 1, 2, ... in their order as strings.

All lines are checked before anything is raised, so that a list can be repaired in one go.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobilenext.data.list_finder import Finder, NotFound
from mobilenext.data.list_rows import INTEGER, Row, is_class_name, parse_rows
from mobilenext.data.list_tasks import NoList, shortened
from mobilenext.data.list_text import read_lines
from mobilenext.data.problems import raise_problems
from mobilenext.errors import DatasetError
from mobilenext.file_kinds import kind_of


@dataclass(frozen=True)
class ListedImages:
    """What a list holds."""

    images: tuple[tuple[str, str, int], ...]  # path, name relative to the root or as written, label
    class_names: tuple[str, ...] | None  # where the list has names in place of numbers: those of the labels
    repeats: int  # lines whose image an earlier line has
    notes: tuple[str, ...]  # how the list was understood, where that is not plain


def read_list(root: Path, list_file: Path, num_classes: int | None = None, *, repeats: bool = False) -> ListedImages:
    """Read the images of a list, in order; with `repeats` a line may come again, as training lists balance classes.

    Raises:
        DatasetError: a list that cannot be read or is empty, or the problems of its lines.
    """
    finder = Finder(root, list_file)
    try:
        parsed = parse_rows(read_lines(list_file), finder.is_file)
    except NoList as error:
        raise DatasetError(f"{list_file}: {error}") from error
    if not parsed.rows:
        raise DatasetError(f"{list_file}: the list is empty; expected an image's name and its label on each line")
    class_names = _class_names(parsed.rows)
    label_of = {name: label for label, name in enumerate(class_names)}
    images: list[tuple[str, str, int]] = []
    problems: list[str] = []
    labels: set[int] = set()
    first = _FirstLines()
    again = 0
    parsed.rows.reverse()
    while parsed.rows:  # each is dropped when it is read: a million of them take a third of a gigabyte
        row = parsed.rows.pop()
        try:
            label = label_of[_nfc(row.label)] if class_names and row.problem is None else _label_of(row)
            labels.add(label)
            _check_label(label, None if class_names else num_classes)
            path, name = finder.find(row.name)
            again += first.is_repeat(path, label, row.number, repeats)
        except (_LineProblem, NotFound) as problem:
            problems.append(f"line {row.number}: {shortened(row.line)}: {problem}")
        else:
            images.append((path, name, label))
    if problems:
        hint = ""
        if num_classes and (min(labels, default=0), max(labels, default=0)) == (1, num_classes):
            hint = f"\nThe labels run from 1 to {num_classes}: they seem to be off by one; subtract 1 from each."
        elif not images and (kind := kind_of(list_file)) and kind.name == "text":
            hint = "\nNo line is the name of an image and a number. If these are the names of the classes: --labels."
        raise_problems(list_file, problems, hint)
    notes = [*parsed.notes, *finder.notes(), *alike_notes(class_names)]
    if again:
        notes.append(f"{again:,} of {len(images):,} lines of {list_file.name} repeat an image, which counts each time")
    return ListedImages(tuple(images), class_names or None, again, tuple(notes))


def alike_notes(class_names: Iterable[str]) -> list[str]:
    """Return a sentence on classes whose names differ in nothing but case and spaces: they may be meant for one."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(" ".join(name.casefold().replace("_", " ").split()), []).append(name)
    several = [names for names in alike.values() if len(names) > 1]
    if not several:
        return []
    shown = "; ".join(", ".join(map(repr, names)) for names in several[:3])
    return [f"classes whose names differ in case or spaces only count as different ones: {shown}"]


class _LineProblem(Exception):
    """What is wrong with one line of a list."""


def _class_names(rows: list[Row]) -> tuple[str, ...]:
    """Return the names of classes, sorted, or by the numbers in another column; none where the labels are numbers."""
    labels = {_nfc(row.label) for row in rows if row.problem is None}
    if not all(map(is_class_name, labels)):
        return ()
    ids = {(_nfc(row.label), row.class_id) for row in rows if row.class_id is not None}
    if len({class_id for _, class_id in ids}) == len(labels) == len(ids):
        return tuple(name for name, _ in sorted(ids, key=lambda pair: pair[1]))
    return tuple(sorted(labels))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _label_of(row: Row) -> int:
    if row.problem is not None:
        raise _LineProblem(row.problem)
    if not INTEGER.fullmatch(row.label):
        raise _LineProblem(f"the label {shortened(row.label)} is not an integer")
    return int(row.label.partition(".")[0])


def _check_label(label: int, num_classes: int | None) -> None:
    if label < 0:
        raise _LineProblem(f"the label {label} is negative; labels start at 0")
    if num_classes is not None and label >= num_classes:
        raise _LineProblem(f"the label {label} is too large; with {num_classes} classes they run 0..{num_classes - 1}")


class _FirstLines:
    """The first line of each file and its label."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}  # in the two below, which take less memory than as many pairs
        self._lines = array("q")
        self._labels: list[int] = []  # of any size

    def is_repeat(self, path: str, label: int, line: int, repeats: bool) -> bool:
        """Return whether a line before has the file; remember this one if none has.

        Raises:
            _LineProblem: one has, with another label, or where there may be no `repeats`.
        """
        position = self._positions.setdefault(path, len(self._lines))
        if position == len(self._lines):
            self._lines.append(line)
            self._labels.append(label)
            return False
        first, label_there = self._lines[position], self._labels[position]
        if label_there != label:
            raise _LineProblem(f"the same file as in line {first}, where its label is {label_there}")
        if not repeats:
            raise _LineProblem(f"the same file as in line {first}; each may be listed once, but in a training list")
        return True
