"""Files of class names, in the forms that other projects write, to one name for each class.

One name a line, in the order of the classes; or, on every line, the class before the name:

    tench, Tinca tinca          0 tench, Tinca tinca        n01440764 tench, Tinca tinca
    goldfish                    1: goldfish                 n01443537 goldfish

The separator may be a space, a tab or one of ``: , ; . ) = -``. Numbers are taken for class ids if all lines have one
and they are 0..n-1, or 1..n, in any order; so "7 up" among other names stays as it is. Also read are tables with a
header (CSV, TSV), JSON, a Python dict or list, the ``names`` of a YAML file, and label maps in Protocol Buffers' text
form; see `mobilenext.data.label_forms`. The text is UTF-8, or UTF-16 with a byte-order mark.

The names of ImageNet's 1,000 classes are those of ILSVRC 2012, which took them from WordNet; the classes are in the
order of their WordNet ids, as everybody has them.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from mobilenext.data import label_forms
from mobilenext.data.label_forms import Entry, LabelProblem
from mobilenext.errors import DataError
from mobilenext.file_kinds import other_kind
from mobilenext.files import FileProblem, read_bounded

log = logging.getLogger(__name__)
MAX_BYTES = 4 << 20
MAX_LENGTH = 1000  # characters of a name
WORDNET_ID = re.compile(r"n[0-9]{8}")

_NUMBERED = re.compile(r"([0-9]{1,6})(?:\s*(?:[:,;=|)]|->|\.(?=\s)|-(?=\s))\s*|\s+)(\S.*)")
_NUMBERED_AT_END = re.compile(r"(.*\S)\s*[\t,;]\s*([0-9]{1,6})")
_WITH_WORDNET_ID = re.compile(rf"({WORDNET_ID.pattern})(?:\s*[:,;=|]\s*|\s+)(\S.*)")
_QUOTED = re.compile(r"""'(.*)',?|"(.*)",?""")
_BACKGROUND = frozenset({"background", "__background__", "_background_", "dummy"})  # class 0 of TensorFlow's 1,001


def labels_of(labels: str | os.PathLike[str] | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the names of the classes: those that are given, or those of a label file; None stays None.

    Raises:
        DataError: as of :func:`read_labels`.
    """
    if labels is None:
        return None
    return read_labels(labels) if isinstance(labels, str | os.PathLike) else tuple(map(str, labels))


def read_labels(path: str | os.PathLike[str], num_classes: int | None = None) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, 2, ... from a label file in any form that is known.

    A WordNet id before a name is left out where ImageNet's classes tell it from the name; else it stays in the name.

    Args:
        path: at most 4 MiB of text.
        num_classes: how many names there must be.

    Raises:
        DataError: the file cannot be read, gives a class no name or two, or has another number of names.
    """
    path = Path(path)
    if other := other_kind(path, "text", "json"):
        raise DataError(f"{path}: {other}. Expected a file of class names")
    text = _text(path)
    try:
        entries = label_forms.structured(path.name, text)
        if entries is None:
            entries = _entries_of_lines(text, num_classes)
        names = _without_wordnet_ids(_ordered(path, entries))
        if num_classes is not None and len(names) == num_classes + 1 and names[0].lower() in _BACKGROUND:
            log.info("%s: its first name, %s, is no class and is left out", path, names[0])
            names = names[1:]
    except LabelProblem as problem:
        raise DataError(f"{path}: {problem}") from problem
    if num_classes is not None and len(names) != num_classes:
        raise DataError(f"{path}: {len(names):,} names for {num_classes:,} classes; expected one name for each class")
    return tuple(names)


def imagenet_labels() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes (ILSVRC 2012); two of them are "crane"."""
    return tuple(words for _, words in _imagenet())


def imagenet_wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's 1,000 classes, which its class folders are called."""
    return tuple(wordnet_id for wordnet_id, _ in _imagenet())


@cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text("utf-8").splitlines()
    return tuple((line[:9], line[10:]) for line in lines)


def _text(path: Path) -> str:
    try:
        data = read_bounded(path, MAX_BYTES, "a text with the names of the classes")
    except FileProblem as problem:
        raise DataError(f"{path}: {problem}") from problem
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} cannot be read as {encoding}; save the file as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: a binary file; expected a text with the names of the classes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _entries_of_lines(text: str, num_classes: int | None) -> list[Entry]:
    """Return the names and ids of a file with one class on each line."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line != "#" and not line.startswith("# ")]  # comments
    while lines and not lines[-1][1]:
        lines.pop()
    names = [line for _, line in lines if line]
    if len(names) == 1 and num_classes not in (None, 1):
        for mark in ",;":
            if names[0].count(mark) + 1 == num_classes:
                return [(None, name.strip()) for name in names[0].split(mark)]
    if names and all(_QUOTED.fullmatch(name) for name in names):
        names = [_unquoted(name) for name in names]
    entries = _numbered(names)
    ids_are_there = entries[:1] and entries[0][0] is not None
    if len(names) < len(lines) and not ids_are_there and len(names) != num_classes:
        number = next(number for number, line in lines if not line)
        raise LabelProblem(f"line {number} is empty, so it is open which class is meant; expected a name on each line")
    return entries


def _unquoted(line: str) -> str:
    line = line.removesuffix(",")
    return line[1:-1].replace(line[0] * 2, line[0]).strip()


def _numbered(names: list[str]) -> list[Entry]:
    """Return class ids if every line has one; a mixture is a problem if its numbers can only be ids."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    numbered = [(place, int(match[1]), match[2]) for place, match in enumerate(matches) if match]
    ids = [number for _, number, _ in numbered]
    if names and len(numbered) == len(names):
        # "10 euro", "20 euro": the numbers belong to the names, which without them hardly differ. "7 up": too large.
        belong = len({name for _, _, name in numbered}) <= len(names) / 2 or max(ids) > 2 * len(ids)
        return [(None, name) for name in names] if belong else [(number, name) for _, number, name in numbered]
    at_places = len({number - place for place, number, _ in numbered}) == 1 and ids[0] - numbered[0][0] in (0, 1)
    likely = len(set(ids)) == len(ids) and max(ids, default=0) <= len(names)
    if len(ids) >= 2 and likely and (at_places or len(ids) >= len(names) / 2):
        place = next(place for place, match in enumerate(matches) if not match)
        raise LabelProblem(
            f"{len(ids)} of {len(names)} names have a class id before them, and others, such as {names[place]!r}, have "
            "none; expected an id on every line or on none"
        )
    at_end = [_NUMBERED_AT_END.fullmatch(name) for name in names]
    if names and all(at_end):
        entries = [(int(match[2]), match[1]) for match in at_end if match]
        if _first_id([number for number, _ in entries]) is not None:
            return list(entries)
    return [(None, name) for name in names]


def _first_id(ids: Sequence[int]) -> int | None:
    """Return 0 or 1 if the ids are all numbers from there on, each once."""
    ordered = sorted(ids)
    return next((first for first in (0, 1) if ordered == list(range(first, first + len(ids)))), None)


def _ordered(path: Path, entries: Sequence[Entry]) -> list[str]:
    """Return the names by class.

    Raises:
        LabelProblem: no name at all, a class without a name or with two, or some with an id and some without.
    """
    if not entries:
        raise LabelProblem("no names; expected one for each class")
    names = [name.strip() for _, name in entries]
    for place, name in enumerate(names, start=1):
        if not name or len(name) > MAX_LENGTH:
            raise LabelProblem(f"name {place} has {len(name):,} characters; expected 1 to {MAX_LENGTH:,}")
    ids = [number for number, _ in entries if number is not None]
    if not ids:
        return names
    if len(ids) < len(names):
        raise LabelProblem("some names have a class id and others have none; expected an id on every line or on none")
    first = _first_id(ids)
    if first is None:
        if twice := [number for number, count in Counter(ids).items() if count > 1]:
            raise LabelProblem(f"class {min(twice)} has two names or more; expected one for each class")
        missing = sorted(set(range(max(ids))) - set(ids))
        raise LabelProblem(
            f"{len(ids):,} names with the ids {min(ids)} to {max(ids)}, and none with {missing[-1]}; expected the "
            f"ids 0 to {len(ids) - 1}, each once"
        )
    if first == 1:
        log.info("%s: its ids run from 1: class 0 is %s", path, names[ids.index(1)])
    by_id = dict(zip(ids, names, strict=True))
    return [by_id[number] for number in sorted(by_id)]


def _without_wordnet_ids(names: Sequence[str]) -> list[str]:
    """Return names without the WordNet id before them, where ImageNet's classes tell the id from the rest of the name.

    Names that are nothing but WordNet ids of ImageNet's classes get the words of these classes.
    """
    known = dict(_imagenet())
    if all(name in known for name in names):
        names = [f"{name} {known[name]}" for name in names]
    matches = [_WITH_WORDNET_ID.fullmatch(name) for name in names]
    if not all(matches):
        return list(names)
    pairs = [(match[1], match[2]) for match in matches if match]
    if tuple(wordnet_id for wordnet_id, _ in pairs) == imagenet_wordnet_ids():
        return [words for _, words in pairs]
    count = Counter(known.values())
    return [
        words if known.get(wordnet_id) == words and count[words] == 1 else f"{wordnet_id} {words}"
        for wordnet_id, words in pairs
    ]
