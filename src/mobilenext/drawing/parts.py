"""The parts of a page as plain data: what a task says of its results, in the order in which it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mobilenext.drawing.cells import Table
from mobilenext.drawing.chart import Chart


@dataclass(frozen=True)
class Span:
    """A few words with emphasis."""

    text: str
    tag: str = "strong"  # strong | small | code | bdi (a name that was read from a file)


Spans: TypeAlias = Sequence[str | Span]


@dataclass(frozen=True)
class Paragraph:
    """Text, which may be a note, a warning or a number that is set large (``score``)."""

    spans: Spans
    kind: str = ""  # lede | note | warning | score


@dataclass(frozen=True)
class Tile:
    """A number that one looks for first."""

    title: str
    text: str
    note: str
    verdict: tuple[str, str] | None = None  # a word beside the number, and good | bad | neutral
    lead: bool = False


@dataclass(frozen=True)
class Tiles:
    """Tiles side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Bar:
    """One of the answers for an image."""

    name: str
    text: str
    width: float  # percent
    right: bool


@dataclass(frozen=True)
class Card:
    """One image: pictures of it with their descriptions, what it is, and the answers as bars."""

    title: str
    path: str
    caption: str  # of the bars
    bars: Sequence[Bar]
    pictures: Sequence[tuple[str, str]] = ()  # data URIs, and what they show
    before: str = "is"  # a word in front of the title


@dataclass(frozen=True)
class Cards:
    """Images in a grid, of small pictures or of larger ones."""

    cards: Sequence[Card]
    wide: bool = False


@dataclass(frozen=True)
class Article:
    """Parts under a heading of their own, such as those of one run; without a heading where there is only one."""

    heading: Spans
    parts: Sequence[Part]
    folded: bool = False  # at first only its heading is shown

    @property
    def label(self) -> str:
        """Return the heading as plain text."""
        return "".join(span if isinstance(span, str) else span.text for span in self.heading)


Part: TypeAlias = Paragraph | Tiles | Table | Charts | Cards | Article


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    name: str  # of its element
    title: str
    parts: Sequence[Part]
    before: str = "latency"  # the general section in front of which it stands: metric-latency, latency, unreadable


def article_of(name: str, parts: Sequence[Part], *, several: bool, folded: bool = False) -> Article:
    """Return the parts of one run, under its name where there are several runs."""
    return Article((Span(name, "bdi"),) if several else (), parts, folded)


def set_apart(parts: Sequence[Part], prefix: str) -> list[Part]:
    """Return the parts with a prefix to the names of their tables, which no two tables of a page share."""

    def renamed(part: Part) -> Part:
        if isinstance(part, Table):
            return replace(part, name=f"{prefix}-{part.name}")
        return replace(part, parts=set_apart(part.parts, prefix)) if isinstance(part, Article) else part

    return [renamed(part) for part in parts]
