"""The lines of a list to names and labels: lines of the usual kind, and tables as spreadsheets and programs write them.

The usual line is a name and a label, which stands right of the last space, tab, comma, semicolon or bar, so that names
may contain any of them. Where not all lines are of that kind, or their files are not there, these are tried,
each for the whole list:

    a table with a header     filename,label    image;class    id,label; other columns do not count
    a table without one       index, name and label in any order (MXNet: index, label, name), quoted cells
    a label before the name   3 photo.jpg
    names of classes          photo.jpg golden retriever

Lists of other tasks are recognized by `mobilenext.data.list_tasks`.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from mobilenext.data.list_tasks import (
    NUMBER,
    SEPARATORS,
    NoList,
    cut,
    refuse_joined_labels,
    refuse_numbers,
    refuse_other_tasks,
    refuse_parts,
    shortened,
)  # fmt: skip
from mobilenext.data.listing import IMAGE_SUFFIXES

EXAMPLE = "expected a name and its label, as in: val_1.JPEG 65"
_DELIMITERS = "\t;,|"
_PROBED = 20  # lines whose files decide between two ways to read a list

INTEGER = re.compile(r"[+-]?[0-9]{1,9}(?:\.0*)?")  # tables of floating-point numbers have 3.0
_LABEL_FIRST = re.compile(rf"([+-]?[0-9]{{1,9}}(?:\.0*)?)[{re.escape(SEPARATORS)}]+(\S.*)")
_ID_AND_NAME = re.compile(rf"([0-9]{{1,9}})[{re.escape(SEPARATORS)}]+\D.*")

# Words for columns, the clearest first.
_NAMES = """
    filename filenames file_name filepath filepaths file_path image_path img_path imgpath image_paths image_file
    image_filename image_name img_name imagename path paths file files image images img imgs image_uri image_url uri url
    fname photo picture image_index image_id img_id imageid id name
"""
_LABELS = """
    label labels class_id classid label_id labelid target class class_index classindex category_id category class_name
    classname label_name y choice annotation ground_truth gt species breed
"""
_NAME_COLUMNS, _LABEL_COLUMNS = _NAMES.split(), _LABELS.split()
_EXCELS_SEPARATOR = re.compile(r"sep=[;,|\t]?", re.IGNORECASE)
_BOXES = re.compile(r"(\w+)(?: \d+){4}(?: \1(?: \d+){4})*")  # ImageNet on Kaggle: the class and its boxes


class Row(NamedTuple):
    """One image of a list, as it is written; a tuple, which is made faster than a dataclass."""

    number: int  # of the line, from 1
    line: str
    name: str
    label: str
    problem: str | None = None  # why it is no name and label
    class_id: int | None = None  # of a table that has the classes' names and their numbers


@dataclass
class Rows:
    """The images of a list, and how it was read where that is not plain."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


IsFile = Callable[[str], bool]
Lines = Sequence[tuple[int, str]]  # number, text


def parse_rows(lines: Sequence[str], is_file: IsFile) -> Rows:
    """Return names and labels of the lines of a list; `is_file` says whether there is a file of a name.

    Raises:
        NoList: a list of another task, or a table whose columns cannot be told.
    """
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    written = [(number, line) for number, line in numbered if line and not _is_comment(line, is_file)]
    notes = []
    if written and _EXCELS_SEPARATOR.fullmatch(written[0][1]):
        del written[0]
    if comments := sum(line.startswith("#") for _, line in numbered) - sum(line.startswith("#") for _, line in written):
        notes.append(f"comments in the list: {comments:,} lines that begin with #")
    if not written:
        return Rows([], notes)
    if (header := _header(written[0][1], is_file)) is not None:
        if header.delimiter != " ":
            return _without_boxes(Rows(_table_with_header(written, header), notes + header.notes()))
        del written[0]  # the other lines may have spaces in names
    usual = [_usual(number, line, is_file) for number, line in written]
    if all(row.problem is None for row in usual) and any(is_file(row.name) for row in usual[:_PROBED]):
        return Rows(usual, notes)
    refuse_other_tasks(written)
    for read in (_table, _label_first, _class_names_last):
        rows = read(written, is_file)
        if rows is not None and any(is_file(row.name) for row in rows[:_PROBED]):
            return Rows(rows, notes)
    return Rows(_class_names_last(written, is_file) or usual, notes)


def is_class_name(label: str) -> bool:
    """Return whether a label is a word, and not a number in some notation."""
    if not any(character.isalpha() for character in label) or PurePath(label).suffix.lower() in IMAGE_SUFFIXES:
        return False
    for number in (float, lambda text: int(text, 0)):
        try:
            number(label)
        except ValueError:
            continue
        return False
    return True


def unquoted(cell: str) -> str:
    """Return a cell without the quotes around it."""
    cell = cell.strip()
    return (
        cell[1:-1].replace(cell[0] * 2, cell[0]) if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" else cell
    )


def _is_comment(line: str, is_file: IsFile) -> bool:
    return line.startswith("#") and not is_file(cut(line)[0])


def _usual(number: int, line: str, is_file: IsFile) -> Row:
    name, label = cut(line)
    label = sys.intern(unquoted(label))  # a few different ones in all lines
    if not name:
        return Row(number, line, name, label, f"no label; {EXAMPLE}")
    if not INTEGER.fullmatch(label):
        return Row(number, line, name, label, f"the label {shortened(label)} is not an integer")
    if name != unquoted(name) and not is_file(name):
        name = unquoted(name)
    return Row(number, line, name, label)


def _cells(line: str, delimiter: str) -> list[str]:
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    while cells and not cells[-1]:
        cells.pop()
    return cells


@dataclass(frozen=True)
class _Header:
    delimiter: str
    columns: list[str]
    name: int
    label: int | None

    def notes(self) -> list[str]:
        if self.label is None or len(self.columns) == 2:
            return []
        return [f"of the list, the columns {self.columns[self.name]} and {self.columns[self.label]} are read"]


def _header(line: str, is_file: IsFile) -> _Header | None:
    """Return the columns, where the line has a word for the names of files, or for labels beside one other column."""
    for delimiter in (*_DELIMITERS, " "):
        columns = [unquoted(cell).strip().lower().replace(" ", "_") for cell in _cells(line, delimiter)]
        if len(columns) < 2 or any(map(NUMBER.fullmatch, columns)):
            continue
        name = _column(columns, _NAME_COLUMNS)
        label = _column([word if index != name else "" for index, word in enumerate(columns)], _LABEL_COLUMNS)
        if len(columns) == 2 and (name is None) != (label is None):
            name, label = (1 - (label or 0), label) if name is None else (name, 1 - name)
        if name is not None and not is_file(cut(line)[0]):
            return _Header(delimiter, columns, name, label)
    return None


def _table_with_header(lines: Lines, header: _Header) -> list[Row]:
    rows = []
    body = [(number, line, _cells(line, header.delimiter)) for number, line in lines[1:]]
    if header.label is None:
        refuse_numbers([cells[: header.name] + cells[header.name + 1 :] for _, _, cells in body])
        raise NoList(
            f"line {lines[0][0]}: which column is the label? The header has {', '.join(header.columns)}; expected one "
            "called label"
        )
    refuse_parts(header.columns, [cells for _, _, cells in body], (header.name, header.label))
    ids = next((index for index in range(len(header.columns)) if _holds_ids(index, header, body)), None)
    refuse_joined_labels([cells[header.label] for _, _, cells in body if len(cells) > header.label])
    for number, line, cells in body:
        problem = None
        if header.name < len(cells) and (len(cells) <= header.label or cells[header.label].lower() in ("", "nan")):
            problem = f"no label in the column {header.columns[header.label]}"
            cells = [*cells, *[""] * len(header.columns)]
        elif len(cells) <= header.name or len(cells) > len(header.columns):
            problem = f"{len(cells)} columns, where the header has {len(header.columns)}"
            cells = [""] * len(header.columns)
        class_id = None if ids is None or problem else int(cells[ids].partition(".")[0])
        rows.append(Row(number, line, cells[header.name], cells[header.label], problem, class_id))
    return rows


def _holds_ids(index: int, header: _Header, body: Sequence[tuple[int, str, list[str]]]) -> bool:
    """Return whether a column holds the numbers of classes, and is not the one that is read as the label."""
    if header.columns[index] not in _LABEL_COLUMNS or index in (header.name, header.label):
        return False
    return all(INTEGER.fullmatch(cells[index]) for _, _, cells in body if index < len(cells))


def _without_boxes(rows: Rows) -> Rows:
    """Return labels without the boxes behind them, where all have some: ``n01440764 10 20 300 400``."""
    matches = [_BOXES.fullmatch(row.label) for row in rows.rows]
    if not matches or not all(matches):
        return rows
    labels = [match[1] for match in matches if match]
    return Rows(
        [row._replace(label=label) for row, label in zip(rows.rows, labels, strict=True)],
        [*rows.notes, "behind the labels of the list are boxes, which do not count"],
    )


def _column(columns: Sequence[str], words: Sequence[str]) -> int | None:
    return next((columns.index(word) for word in words if word in columns), None)


def _table(lines: Lines, is_file: IsFile) -> list[Row] | None:
    """Return columns without a header: one holds files, another the labels; one may count the lines."""
    for delimiter in _DELIMITERS:
        table = [_cells(line, delimiter) for _, line in lines]
        width = len(table[0])
        if width < 2 or any(len(cells) != width for cells in table):
            continue
        hits = [sum(is_file(cells[column]) for cells in table[:_PROBED]) for column in range(width)]
        if not any(hits):
            continue
        name = hits.index(max(hits))
        columns = {column: [cells[column] for cells in table] for column in range(width) if column != name}
        if delimiter == "\t" and name == width - 1 and width > 2:
            del columns[0]  # MXNet: a number for each line, in any order, the label, the name
        if len(columns) > 1:
            columns = {column: cells for column, cells in columns.items() if not _counts(cells)} or columns
        refuse_numbers([[cells[column] for column in columns] for cells in table])
        integers = [column for column, cells in columns.items() if all(map(INTEGER.fullmatch, cells))]
        labels = integers or list(columns)
        if len(labels) > 1:
            refuse_parts([str(column + 1) for column in range(width)], table, (name,))
            raise NoList(
                f"{width} columns, and more than one could be the label; write a header: filename,label, for example"
            )
        return [
            Row(number, line, cells[name], cells[labels[0]])
            for (number, line), cells in zip(lines, table, strict=True)
        ]  # fmt: skip
    return None


def _counts(cells: Sequence[str]) -> bool:
    """Return whether a column numbers the lines, from 0 or 1."""
    return any(list(cells) == [str(number) for number in range(start, start + len(cells))] for start in (0, 1))


def _label_first(lines: Lines, is_file: IsFile) -> list[Row] | None:
    matches = [_LABEL_FIRST.fullmatch(line) for _, line in lines]
    rows = [
        Row(number, line, match[2], match[1]) for (number, line), match in zip(lines, matches, strict=True) if match
    ]
    rows = [row if is_file(row.name) else Row(row.number, row.line, unquoted(row.name), row.label) for row in rows]
    return rows if len(rows) == len(lines) else None


def _class_names_last(lines: Lines, is_file: IsFile) -> list[Row] | None:
    """Split a line into the longest name of a file that it begins with and the label, one word or several."""
    rows = []
    for number, line in lines:
        name, label = name_left, _ = cut(line)
        while name_left and not is_file(unquoted(name_left)):
            name_left, _ = cut(name_left)
        if name_left:
            name, label = name_left, line[len(name_left) :].strip(SEPARATORS)
        if not name or not is_class_name(unquoted(label)):
            return None
        rows.append(Row(number, line, unquoted(name), unquoted(label)))
    ids = [_ID_AND_NAME.fullmatch(row.label) for row in rows]
    if all(ids):  # photo.jpg 3 cat
        return [Row(row.number, row.line, row.name, match[1]) for row, match in zip(rows, ids, strict=True) if match]
    return rows
