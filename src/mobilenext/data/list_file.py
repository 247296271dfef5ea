"""A list file of images and labels, read strictly.

A line is an image's name and its label, an integer from 0, as in ``val_1.JPEG 65``. The label is what stands right of
the last space, tab or comma, so names may contain any of them. Names are looked up in ROOT/imgs, then in ROOT, then
beside the list file; the first hit counts. Backslashes in a name become slashes, unless a file of the very name
exists. Blank lines do not count; a byte-order mark and Windows line ends do no harm. The text is UTF-8.

All lines are checked before anything is raised, so that a list can be repaired in one go.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path, PurePath
from typing import NoReturn

from mobilenext.data.parts import IMAGES_FOLDER
from mobilenext.errors import DatasetError

SEPARATORS = " \t,"
PROBLEMS_SHOWN = 20

_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


def read_list(root: Path, list_file: Path, num_classes: int | None = None) -> list[tuple[Path, str, int]]:
    """Path, name and label of each line, in order; the name is relative to `root`, or as written if not below it.

    Raises:
        DatasetError: a list that cannot be read or is empty, or the problems of its lines.
    """
    finder = _Finder(root, list_file)
    images: list[tuple[Path, str, int]] = []
    problems: list[str] = []
    labels: set[int] = set()
    line_of: dict[Path, int] = {}
    for number, line in enumerate(_list_text(list_file).split("\n"), start=1):
        if not (line := line.strip()):
            continue
        try:
            name, label = _split_line(line)
            labels.add(label)
            _check_label(label, num_classes)
            path, name = finder.find(name)
            if path in line_of:
                raise _LineProblem(f"the same file as in line {line_of[path]}; each may be listed once")
        except _LineProblem as problem:
            problems.append(f"line {number}: {_shortened(line)}: {problem}")
        else:
            line_of[path] = number
            images.append((path, name, label))
    if problems:
        hint = ""
        if num_classes and (min(labels, default=0), max(labels, default=0)) == (1, num_classes):
            hint = f"\nThe labels run from 1 to {num_classes}: they seem to be off by one; subtract 1 from each."
        raise_problems(list_file, problems, hint)
    if not images:
        raise DatasetError(f"{list_file}: the list is empty; expected an image's name and its label on each line")
    return images


def raise_problems(source: Path, problems: list[str], hint: str = "") -> NoReturn:
    """One `DatasetError` of the first `PROBLEMS_SHOWN` problems and their number."""
    shown = problems[:PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown):,} more")
    raise DatasetError(
        f"{source}: {len(problems):,} problem{'s' * (len(problems) > 1)}:\n    " + "\n    ".join(shown) + hint
    )


class _LineProblem(Exception):
    """What is wrong with one line of a list."""


def _list_text(list_file: Path) -> str:
    try:
        with list_file.open("rb") as file:
            data = file.read(4096)
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DatasetError(
                    f"{list_file}: this list is UTF-16, as some Windows programs write; save it as UTF-8"
                )
            if b"\0" in data:  # before the rest is read: it might be an archive of the whole data set
                raise DatasetError(f"{list_file}: a binary file; expected a text of names and labels")
            data += file.read()
    except OSError as error:
        raise DatasetError(f"{list_file}: this list cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{list_file}: line {line} is not UTF-8 (byte {data[error.start]:#04x}); save the list as UTF-8"
        ) from error


def _split_line(line: str) -> tuple[str, int]:
    cut = max(map(line.rfind, SEPARATORS))
    name, label = line[: max(cut, 0)].rstrip(SEPARATORS), line[cut + 1 :]
    if not name:
        raise _LineProblem("no label; expected a name and its label, as in: val_1.JPEG 65")
    if not _INTEGER.fullmatch(label):
        raise _LineProblem(f"the label {_shortened(label)} is not an integer")
    return name, int(label)


def _check_label(label: int, num_classes: int | None) -> None:
    if label < 0:
        raise _LineProblem(f"the label {label} is negative; labels start at 0")
    if num_classes is not None and label >= num_classes:
        raise _LineProblem(f"the label {label} is too large; with {num_classes} classes they run 0..{num_classes - 1}")


class _Finder:
    """Finds the files of a list, asking the file system once for each folder, not 50,000 times."""

    def __init__(self, root: Path, list_file: Path) -> None:
        self._root = f"{root.as_posix()}/"
        self._bases = list(dict.fromkeys(p.as_posix() for p in (root / IMAGES_FOLDER, root, list_file.parent)))
        self._folders: dict[str, dict[str, bool]] = {}  # folder -> name in it -> whether that is a file

    def find(self, name: str) -> tuple[Path, str]:
        """The file, and its name relative to the root, or as it was written if it is elsewhere."""
        is_folder = False
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            bases = [""] if PurePath(spelling).is_absolute() else [f"{base}/" for base in self._bases]
            for base in bases:
                path = f"{base}{spelling}"
                folder, _, last = path.rpartition("/")
                is_file = self._listing(folder or "/").get(last)
                if is_file:
                    return Path(path), path.removeprefix(self._root) if path.startswith(self._root) else spelling
                is_folder = is_folder or is_file is not None
        if is_folder:
            raise _LineProblem("this is not a file; expected an image file")
        raise _LineProblem(f"no such file; looked below {', '.join(self._bases)} (upper and lower case differ)")

    def _listing(self, folder: str) -> dict[str, bool]:
        if folder not in self._folders:
            try:
                with os.scandir(folder) as entries:
                    self._folders[folder] = {entry.name: entry.is_file() for entry in entries}
            except PermissionError as error:
                raise DatasetError(f"{folder}: this folder may not be listed: {error.strerror}") from error
            except (OSError, ValueError):  # no such folder, or the name of none: nothing is in it
                self._folders[folder] = {}
        return self._folders[folder]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
