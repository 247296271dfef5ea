"""Checks of fields: small functions that a reader combines to declare what it needs of a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from mobilenext.errors import DataError

INTEGERS = 1 << 63  # integers lie below it and not below its negative
REMEDY = "restore it, or run the command again"

Check: TypeAlias = Callable[[Any, str], None]  # raises Unfit for a value, which stands in the named field
Fields: TypeAlias = Mapping[str, Check]  # by name, or by path: "final.raw.images"


class Unfit(Exception):
    """A value is not what its field holds; the message says which field, what was found and what was expected."""


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
    """Return a check for a record with these fields, and any others."""
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
    """Return a check for a whole number from `low` to `high`, both included; true and false are none."""
    least, most = -INTEGERS if low is None else low, INTEGERS - 1 if high is None else high
    return _check(lambda value: type(value) is int and least <= value <= most, f"a whole number{_range(low, high)}")


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, finite: bool = True
) -> Check:
    """Return a check for a number from `low` (or above `above`) to `high`; NaN and infinity pass without `finite`."""

    def holds(value: Any) -> bool:
        if not finite and type(value) is float and not math.isfinite(value):
            return True
        if (type(value) is not int and type(value) is not float) or not is_bounded(value):
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
    """Return a check for text that can name a file, see :func:`is_name`; with `choices` for one of them."""
    if choices:
        return _check(lambda value: type(value) is str and value in choices, " or ".join(map(repr, choices)))
    return _check(is_name, "text without null characters and half characters")


def is_name(value: Any) -> bool:
    """Return whether a path can hold this text: no null, and no surrogates but those of names that are no UTF-8."""
    if type(value) is not str or "\0" in value:
        return False
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return False
    return True


def flag() -> Check:
    """Return a check for true or false."""
    return _check(lambda value: type(value) is bool, "true or false")


def sha256() -> Check:
    """Return a check for a checksum, 64 digits from 0 to f."""
    digits = frozenset("0123456789abcdef")
    return _check(lambda value: type(value) is str and len(value) == 64 and digits.issuperset(value), "a sha256")


def many(items: Check, length: int | Collection[int] | None = None) -> Check:
    """Return a check for a list whose elements pass `items`; of one length, or of one of several."""
    lengths = (length,) if isinstance(length, int) else length
    of = "" if lengths is None else f" of {' or '.join(map(str, lengths))}"

    def holds(value: Any, field: str) -> None:
        if type(value) is not list or (lengths is not None and len(value) not in lengths):
            raise Unfit(f"{_named(field)} is {shown(value)}; expected a list{of}")
        for place, item in enumerate(value):
            items(item, f"{field}[{place}]")

    return holds


def named(items: Check) -> Check:
    """Return a check for a record of any names whose values pass `items`."""
    name = text()

    def holds(value: Any, field: str) -> None:
        if type(value) is not dict:
            raise Unfit(f"{_named(field)} is {shown(value)}; expected a record")
        for key, item in value.items():
            name(key, f"a name in {_named(field)}")
            items(item, f"{field}.{key}")

    return holds


def optional(inner: Check) -> Check:
    """Return a check that also takes null and a missing field."""

    def holds(value: Any, field: str) -> None:
        if value is not None and value is not _MISSING:
            inner(value, field)

    return holds


def nullable(inner: Check) -> Check:
    """Return a check that also takes null; the field has to be there."""

    def holds(value: Any, field: str) -> None:
        if value is not None:
            inner(value, field)

    return holds


def either(first: Check, second: Check) -> Check:
    """Return a check for a value that passes one of two checks; the message is that of the second."""

    def holds(value: Any, field: str) -> None:
        try:
            first(value, field)
        except Unfit:
            second(value, field)

    return holds


def shown(value: Any) -> str:
    """Return a value in at most 60 characters, on one line."""
    if type(value) is int and not -INTEGERS <= value < INTEGERS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        kind = "a record" if isinstance(value, Mapping) else "a list"
        whole_value = repr(value) if len(value) <= 4 and not any(isinstance(v, dict | list) for v in value) else ""
        return whole_value if 0 < len(whole_value) <= 60 else f"{kind} of {len(value)}"
    content = repr(value[:61] if isinstance(value, str) else value)
    return content if len(content) <= 60 else f"{content[:57]}..."


def is_bounded(item: int | float) -> bool:
    """Return whether a number is finite, and an integer has at most 64 bits."""
    return -INTEGERS <= item < INTEGERS if type(item) is int else math.isfinite(item)
