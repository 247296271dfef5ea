"""The one reader of JSON that comes from outside: results, runs, logs, journals, sidecars, positions of checkpoints.

What a file may hold is bounded before anything uses it: its size, its depth, its numbers, no name twice in a record.
What a reader needs of it is declared beside that reader, a check for each field, and checked where it is read:

    _RESULT = {"images": whole(1), "final.raw.correct_top1": whole(0), "mean": many(number(), 3)}
    result = read_json(folder / "result.json", _RESULT)

Fields that are not declared are kept as they are, so that newer files stay readable.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

from mobilenext.errors import DataError

LARGEST = 64 << 20  # bytes of a file that is read as a whole; a result of 21,000 classes has 4 MB
LONGEST_LINE = 4 << 20  # bytes
DEEPEST = 64  # records and lists in each other; what is written here has up to 6
INTEGERS = 1 << 63  # integers lie below it and not below its negative
REMEDY = "restore it, or run the command again"

Check: TypeAlias = Callable[[Any, str], None]  # raises Unfit for a value, which stands in the named field
Fields: TypeAlias = Mapping[str, Check]  # by name, or by path: "final.raw.images"


class Unfit(Exception):
    """A value is not what its field holds; the message says which field, what was found and what was expected."""


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
    """Read a file of one JSON value a line: the number of each line, from 1, and its value.

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
    """The lines of a file with their line ends, and their numbers from 1; the last may have been cut.

    Raises:
        DataError: no such file, one that cannot be read, or a line that is too long.
    """
    try:
        with os.fdopen(_opened(path, remedy, missing), "rb") as file:
            yield from lines_of(file, str(path), remedy=remedy)
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def lines_of(file: BinaryIO, name: str, *, remedy: str = REMEDY) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file, as :func:`read_lines`."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name}: line {number} has more than {LONGEST_LINE:,} bytes; expected JSON lines; {remedy}"
            )
        yield number, line


def read_bytes(path: Path, largest: int = LARGEST, *, remedy: str = REMEDY, missing: str = "") -> bytes:
    """The content of a regular file of up to `largest` bytes.

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
    """A descriptor of a regular file; a pipe without a writer does not make this wait."""
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


def parse(content: bytes, name: str, line: int | None = None, *, remedy: str = REMEDY, numbers: bool = True) -> Any:
    """The value that `content` stands for.

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


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Unfit(f"the field {shown(repeated)} stands there twice")
    return record


def _not_finite(name: str) -> NoReturn:
    raise Unfit(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_record, parse_constant=_not_finite)
_DECODER_OF_ANY_NUMBER = json.JSONDecoder(object_pairs_hook=_record)


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
            elif numbers and (kind is int or kind is float) and not _bounded(item):
                raise Unfit(f"{_field_of(value, item)} is {shown(item)}; expected {_NUMBERS}")
        level, depth = below, depth + 1
        if depth > DEEPEST + 1:
            raise Unfit(f"it is nested deeper than {DEEPEST} levels")


_NUMBERS = "finite numbers, integers of at most 64 bits"


def _bounded(item: int | float) -> bool:
    return -INTEGERS <= item < INTEGERS if type(item) is int else math.isfinite(item)


def _field_of(value: Any, wanted: Any) -> str:
    """Where in `value` the object `wanted` stands; only for a message."""
    waiting: list[tuple[str, Any]] = [("", value)]
    for field, item in waiting:
        if item is wanted:
            return field.lstrip(".") or "the value"
        if isinstance(item, dict):
            waiting += [(f"{field}.{name}", inner) for name, inner in item.items()]
        elif isinstance(item, list):
            waiting += [(f"{field}[{place}]", inner) for place, inner in enumerate(item)]
    return "a value"


# Checks of fields.


def check(value: Any, fields: Fields | Check, where: str, *, remedy: str = REMEDY) -> None:
    """Check a record against its declared fields.

    Raises:
        DataError: `where`, the field, what was found and what was expected.
    """
    try:
        (fields if callable(fields) else record(fields))(value, "")
    except Unfit as error:
        raise DataError(f"{where} is damaged: {error}; {remedy}") from error


def record(fields: Fields) -> Check:
    """A record with these fields, and any others."""
    paths = [(name.split("."), fields[name]) for name in fields]

    def holds(value: Any, field: str) -> None:
        if type(value) is not dict:
            raise Unfit(f"{_named(field)} is {shown(value)}; expected a record")
        for path, inner_check in paths:
            if len(path) == 1:
                inner_check(value.get(path[0], _MISSING), f"{field}.{path[0]}" if field else path[0])
                continue
            inner: Any = value
            name = field
            for part in path:
                name = f"{name}.{part}" if name else part
                if type(inner) is dict:
                    inner = inner.get(part, _MISSING)
                elif inner is not _MISSING:
                    raise Unfit(f"{name.rpartition('.')[0]} is {shown(inner)}; expected a record")
            inner_check(inner, name)

    return holds


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _named(field: str) -> str:
    return field or "it"


def _check(holds: Callable[[Any], bool], expected: str) -> Check:
    def field_check(value: Any, field: str) -> None:
        if value is _MISSING or not holds(value):
            raise Unfit(f"{_named(field)} is {shown(value)}; expected {expected}")

    return field_check


def whole(low: int | None = None, high: int | None = None) -> Check:
    """A whole number from `low` to `high`, both included; true and false are none."""
    least, most = -INTEGERS if low is None else low, INTEGERS - 1 if high is None else high
    return _check(lambda value: type(value) is int and least <= value <= most, f"a whole number{_range(low, high)}")


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, finite: bool = True
) -> Check:
    """A finite number from `low` (or above `above`) to `high`; or, where it need not be finite, NaN or infinity."""

    def holds(value: Any) -> bool:
        if not finite and type(value) is float and not math.isfinite(value):
            return True
        if (type(value) is not int and type(value) is not float) or not _bounded(value):
            return False
        return (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)

    limits = f" above {above:g}{'' if high is None else f' and up to {high:g}'}" if above is not None else None
    return _check(holds, f"a finite number{limits or _range(low, high)}")


def _range(low: float | None, high: float | None) -> str:
    least, most = (f"{end:g}" if isinstance(end, float) else str(end) for end in (low, high))
    if low is None:
        return "" if high is None else f" up to {most}"
    return f" from {least} to {most}" if high is not None else f" from {least} up"


def text(*choices: str) -> Check:
    """Text that can name a file, see :func:`is_name`; with `choices` one of them."""
    if choices:
        return _check(lambda value: type(value) is str and value in choices, " or ".join(map(repr, choices)))
    return _check(is_name, "text without null characters and half characters")


def is_name(value: Any) -> bool:
    """Whether this is text that a path can hold: no null, and no surrogates but those of names that are no UTF-8."""
    if type(value) is not str or "\0" in value:
        return False
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return False
    return True


def flag() -> Check:
    """True or false."""
    return _check(lambda value: type(value) is bool, "true or false")


def sha256() -> Check:
    """A checksum, 64 digits from 0 to f."""
    digits = frozenset("0123456789abcdef")
    return _check(lambda value: type(value) is str and len(value) == 64 and digits.issuperset(value), "a sha256")


def many(items: Check, length: int | Collection[int] | None = None) -> Check:
    """A list, all elements of which pass `items`; of one length, or of one of several."""
    lengths = (length,) if isinstance(length, int) else length
    of = "" if lengths is None else f" of {' or '.join(map(str, lengths))}"

    def holds(value: Any, field: str) -> None:
        if type(value) is not list or (lengths is not None and len(value) not in lengths):
            raise Unfit(f"{_named(field)} is {shown(value)}; expected a list{of}")
        for place, item in enumerate(value):
            items(item, f"{field}[{place}]")

    return holds


def named(items: Check) -> Check:
    """A record of any names, all values of which pass `items`."""
    name = text()

    def holds(value: Any, field: str) -> None:
        if type(value) is not dict:
            raise Unfit(f"{_named(field)} is {shown(value)}; expected a record")
        for key, item in value.items():
            name(key, f"a name in {_named(field)}")
            items(item, f"{field}.{key}")

    return holds


def optional(inner: Check) -> Check:
    """The same, or null, or not there."""

    def holds(value: Any, field: str) -> None:
        if value is not None and value is not _MISSING:
            inner(value, field)

    return holds


def nullable(inner: Check) -> Check:
    """The same, or null; but it has to be there."""

    def holds(value: Any, field: str) -> None:
        if value is not None:
            inner(value, field)

    return holds


def either(first: Check, second: Check) -> Check:
    """What passes one of two checks; the message is that of the second."""

    def holds(value: Any, field: str) -> None:
        try:
            first(value, field)
        except Unfit:
            second(value, field)

    return holds


def shown(value: Any) -> str:
    """A value in at most 60 characters, on one line."""
    if type(value) is int and not -INTEGERS <= value < INTEGERS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        kind = "a record" if isinstance(value, Mapping) else "a list"
        whole_value = repr(value) if len(value) <= 4 and not any(isinstance(v, dict | list) for v in value) else ""
        return whole_value if 0 < len(whole_value) <= 60 else f"{kind} of {len(value)}"
    content = repr(value[:61] if isinstance(value, str) else value)
    return content if len(content) <= 60 else f"{content[:57]}..."
