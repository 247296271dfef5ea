"""Read files of JSON within bounds: the size of a file, its depth, its numbers, no name twice in a record."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mobilenext.errors import DataError
from mobilenext.json_files.fields import REMEDY, Check, Fields, Unfit, check, is_bounded, shown

LARGEST = 64 << 20  # bytes of a file that is read as a whole; a result of 21,000 classes has 4 MB
LONGEST_LINE = 4 << 20  # bytes
DEEPEST = 64  # records and lists in each other; what is written here has up to 6


def read_json(
    path: Path, fields: Fields | Check | None = None, *, remedy: str = REMEDY, missing: str = ""
) -> dict[str, Any]:
    """Read a file that holds one record, and check the fields that are declared.

    Args:
        path: a regular file of up to LARGEST bytes.
        fields: a check for each field that is needed.
        remedy: what to do about a damaged file, the end of every message.
        missing: what to say of a file that is not there, after its name.

    Returns:
        The record, with the fields that are not declared.

    Raises:
        DataError: there is no such file, it is damaged or too large, or a field is not as declared.
    """
    content = read_bytes(path, LARGEST, remedy=remedy, missing=missing)
    record = parse(content, str(path), remedy=remedy)
    check(record, fields or {}, str(path), remedy=remedy)
    return dict(record)


def read_json_lines(
    path: Path, fields: Fields | Check | None = None, *, remedy: str = REMEDY, missing: str = ""
) -> Iterator[tuple[int, Any]]:
    """Read a file of one JSON value a line; yield the number of each line, from 1, and its value.

    Without `fields` the values are as they come, numbers included, and the caller checks all that it uses.

    Raises:
        DataError: as :func:`read_json`, with the line.
    """
    name = str(path)
    for number, line in read_lines(path, remedy=remedy, missing=missing):
        value = parse(line, name, number, remedy=remedy, numbers=fields is not None)
        if fields is not None:
            check(value, fields, f"{name}: line {number}", remedy=remedy)
        yield number, value


def read_lines(path: Path, *, remedy: str = REMEDY, missing: str = "") -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their line ends, and their numbers from 1; the last may have been cut.

    Raises:
        DataError: no such file, one that cannot be read, or a line that is too long.
    """
    try:
        with os.fdopen(_opened(path, remedy, missing), "rb") as file:
            yield from lines_of(file, str(path), remedy=remedy)
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def lines_of(file: BinaryIO, name: str, *, remedy: str = REMEDY) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of an open file, as :func:`read_lines`."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name}: line {number} has more than {LONGEST_LINE:,} bytes; expected JSON lines; {remedy}"
            )
        yield number, line


def read_bytes(path: Path, largest: int = LARGEST, *, remedy: str = REMEDY, missing: str = "") -> bytes:
    """Return the content of a regular file of up to `largest` bytes.

    Raises:
        DataError: no such file, a folder, pipe or device, one that cannot be read, or a larger one.
    """
    try:
        with os.fdopen(_opened(path, remedy, missing), "rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    if len(content) > largest:
        raise DataError(f"{path} has more than {largest:,} bytes; expected a smaller file; {remedy}")
    return content


def _opened(path: Path, remedy: str, missing: str) -> int:
    """Open a regular file and return its descriptor; a pipe without a writer does not make this wait."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path} {missing}" if missing else f"{path} is missing; {remedy}") from error
    except ValueError as error:  # a null in the name
        raise DataError(f"{str(path)!r} is no name of a file ({error}); {remedy}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise DataError(f"{path} is not a regular file; expected a file with JSON; {remedy}")
    return number


def _unreadable(path: Path, error: OSError, remedy: str) -> DataError:
    return DataError(f"{path}: {error.strerror or error}; expected a file that can be read; {remedy}")


def parse(
    content: bytes,
    name: str,
    line: int | None = None,
    *,
    remedy: str = REMEDY,
    numbers: bool = True,
    leave_out: frozenset[str] = frozenset(),
) -> Any:
    """Return the value that `content` stands for.

    Args:
        content: JSON in UTF-8, with or without a byte order mark (UTF-16 and 32 are understood, too).
        name: of the file or the part of one, for messages.
        line: where `content` is one line of it, that line's number.
        remedy: what to do about it, the end of every message.
        numbers: whether all numbers are bounded here: integers to 64 bits, others finite. Without, NaN and infinity
            are read as well, and numbers are bounded where the caller checks the fields that it uses.

    Raises:
        DataError: not JSON, cut off, a name twice in one record, more than DEEPEST levels, or a number out of bounds.
    """
    try:
        decoder = _DECODER if numbers else _DECODER_OF_ANY_NUMBER
        if leave_out:
            decoder = _decoder_without(leave_out, numbers)
        value = decoder.decode(content.decode(json.detect_encoding(content)))
        # Where there are no more brackets than levels, nothing needs to be walked through.
        if numbers or content.count(b"[") + content.count(b"{") > DEEPEST:
            _walk(value, numbers)
        return value
    except json.JSONDecodeError as error:
        what = "cut off" if not error.doc[error.pos :].strip() else f"not JSON ({error.msg}, column {error.colno})"
        problem = f"it is {what}" if line is not None else f"line {error.lineno} is {what}"
    except UnicodeDecodeError as error:
        at = "it" if line is not None else f"line {content.count(bytes([10]), 0, error.start) + 1}"
        problem = f"{at} is not UTF-8 ({error.reason}, byte {error.start})"
    except RecursionError:
        problem = f"it is nested deeper than {DEEPEST} levels"
    except Unfit as error:
        problem = str(error)
    except ValueError as error:  # an integer of more digits than Python reads
        problem = f"it holds a number that is too long ({str(error).partition(':')[0]})"
    place = name if line is None else f"{name}: line {line}"
    raise DataError(f"{place} is damaged: {problem}; expected JSON; {remedy}")


def _to_record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Unfit(f"the field {shown(repeated)} stands there twice")
    return record


def _not_finite(name: str) -> NoReturn:
    raise Unfit(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_to_record, parse_constant=_not_finite)
_DECODER_OF_ANY_NUMBER = json.JSONDecoder(object_pairs_hook=_to_record)


def _decoder_without(names: frozenset[str], numbers: bool) -> json.JSONDecoder:
    def to_record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = _to_record(pairs)
        for name in names:
            record.pop(name, None)
        return record

    return json.JSONDecoder(object_pairs_hook=to_record, parse_constant=_not_finite if numbers else None)


def _walk(value: Any, numbers: bool) -> None:
    """Bound depth and, with `numbers`, the size of all numbers; level by level, so that depth costs no recursion."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below += item.values()
            elif kind is list:
                below += item
            elif numbers and (kind is int or kind is float) and not is_bounded(item):
                raise Unfit(f"{_field_of(value, item)} is {shown(item)}; expected {_NUMBERS}")
        level, depth = below, depth + 1
        if depth > DEEPEST + 1:
            raise Unfit(f"it is nested deeper than {DEEPEST} levels")


_NUMBERS = "finite numbers, integers of at most 64 bits"


def _field_of(value: Any, wanted: Any) -> str:
    """Return where in `value` the object `wanted` stands, for a message."""
    waiting: list[tuple[str, Any]] = [("", value)]
    for field, item in waiting:
        if item is wanted:
            return field.lstrip(".") or "the value"
        if isinstance(item, dict):
            waiting += [(f"{field}.{name}", inner) for name, inner in item.items()]
        elif isinstance(item, list):
            waiting += [(f"{field}[{place}]", inner) for place, inner in enumerate(item)]
    return "a value"
