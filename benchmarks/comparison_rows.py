"""Rows of a comparison: what was compared with what, how far the two are apart, and how far they may be."""

from __future__ import annotations

from typing import Any, NamedTuple

Row = dict[str, Any]


class Difference(NamedTuple):
    """The largest differences of some values, absolute and relative to a quantity."""

    values: int
    absolute: float
    relative: float
    of: str


class Bound(NamedTuple):
    """What a relative difference may be, and why."""

    allowed: float
    because: str


EQUAL = Bound(0.0, "equal")


def row(
    comparison: str, what: str, subject: str, against: str, difference: Difference, bound: Bound, **more: Any
) -> Row:
    return {
        "comparison": comparison,
        "what": what,
        "subject": subject,
        "reference": against,
        "values": difference.values,
        "largest_absolute_difference": difference.absolute,
        "largest_relative_difference": difference.relative,
        "relative_to": difference.of,
        "allowed": bound.allowed,
        "allowed_because": bound.because,
        "passed": bool(difference.relative <= bound.allowed),
        **more,
    }
