"""Tables of a page as plain data: every cell with what it is sorted by and, where it counts, its counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mobilenext.statistics import percent, percent_text, wilson_percent

LONGEST_NAME = 80


@dataclass(frozen=True)
class Cell:
    """The text of a cell, the value it is sorted by, and a bar of percent with its interval where there is one."""

    text: str
    value: float | str | None = None
    note: str = ""
    bar: tuple[float, float, float] | None = None
    numeric: bool = True
    picture: str | None = None


EMPTY = Cell("-")


@dataclass(frozen=True)
class Table:
    """Cells, and what the reader may do with them."""

    name: str  # of its elements in the page
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = True
    searched: str = ""  # what one searches for; no search without
    note: str = ""
    marked: frozenset[int] = field(default_factory=frozenset)  # rows that are highlighted
    shown: int = 25  # rows at first; a button shows the others


def words(value: Any, *, note: str = "") -> Cell:
    """Return a cell of text."""
    return Cell(str(value), None, note, numeric=False)


def number(value: float | int | None, form: str = ",", unit: str = "", *, note: str = "") -> Cell:
    """Return a cell of a number in this format; a dash for None."""
    return Cell("-", None, note) if value is None else Cell(f"{value:{form}}{unit}", value, note)


def share(count: int, of: int, *, bar: bool = False, named: bool = True) -> Cell:
    """Return a cell of a percentage with its counts and its 95 % interval.

    Args:
        count, of: the two numbers.
        bar: draw it as well.
        named: say that the interval is one of 95 %, which in a long table its note says once.
    """
    if not of:
        return Cell("-", None, f"{count}/{of}")
    value, (low, high) = percent(count, of), wilson_percent(count, of)
    note = share_note(count, of) if named else f"{fraction_text(count, of)}; {low:.2f} to {high:.2f}"
    return Cell(percent_text(value), value, note, (value, low, high) if bar else None)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number of things in words: 1 image, 1,000 images, 2 matches.

    Args:
        count: how many.
        noun: of one of them.
        plural: of several, where it does not end in s alone.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Return a time in its natural unit: 48 s, 12.5 min, 3.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def fraction_text(count: int, of: int) -> str:
    """Return the two counts of a share, 252/300."""
    return f"{count:,}/{of:,}"


def share_note(count: int, of: int) -> str:
    """Return the counts of a share and its 95 % interval, in percent but without the sign."""
    return f"{fraction_text(count, of)}; {interval_text(*wilson_percent(count, of))}"


def interval_text(low: float, high: float) -> str:
    """Return a 95 % interval without its unit."""
    return f"95 %: {low:.2f} to {high:.2f}"


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that may be a paragraph, cut to `longest` characters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
