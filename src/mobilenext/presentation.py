"""What the log and the report must know about a task: how its results are shown, in words, tables and charts.

`Presentation` is the record of it; `Measured` and `Reported` are what it makes of numbers and of rows. Nothing here
imports Paddle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mobilenext.drawing.cells import interval_text

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from mobilenext.drawing.cells import Cell
    from mobilenext.drawing.chart import Chart
    from mobilenext.drawing.parts import Section, Tile
    from mobilenext.json_files import Check


MOST_PICTURES = 24  # of the worst images of an evaluation, on the report page


@dataclass(frozen=True)
class Measured:
    """The metric, as some counts have it."""

    value: float
    text: str  # with its unit, such as 84.00 %
    counts: str = ""  # that it was divided from, such as 252/300
    interval: tuple[float, float] | None = None  # 95 %, in the unit of the value

    @property
    def note(self) -> str:
        """Return the counts and the interval, without a unit behind it."""
        interval = interval_text(*self.interval) if self.interval else ""
        return "; ".join(filter(None, (self.counts, interval)))


class Row(Protocol):
    """The answer for one image, a line of the journal and of ``predictions.jsonl``: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def index(self) -> int:
        """Return the position of the image in the data set, from 0."""

    @property
    def path(self) -> str:
        """Return the name of the image, as its record has it."""

    @property
    def error(self) -> str | None:
        """Return why the image could not be read, or None where it was."""

    @property
    def bytes(self) -> int | None:
        """Return the size of the file."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are stored, which `mobilenext.task.Evaluation.read_row` reads."""


@dataclass(frozen=True)
class Reported:
    """One evaluation as it lies on disk, for those who show it; a task adds its answers as columns."""

    name: str  # of the run, as the page calls it
    result: Mapping[str, Any]
    paths: Sequence[str]  # of the images, in order
    errors: Mapping[int, str]  # by the position of an image: why it could not be read


def collect(name: str, result: Mapping[str, Any], rows: Iterable[Row]) -> Reported:
    """Return the evaluation with what the rows of every task have: paths and errors."""
    paths, errors = [], {}
    for row in rows:
        paths.append(row.path)
        if row.error is not None:
            errors[row.index] = row.error
    return Reported(name, result, paths, errors)


class PageImages(Protocol):
    """The images of a page, as data URIs."""

    @property
    def folder(self) -> Path | None:
        """Return the folder that they are read from; None where the page has none."""

    @property
    def missing(self) -> Sequence[str]:
        """Return the names of those that could not be read so far."""

    @property
    def explained(self) -> bool:
        """Return whether there are heat maps."""

    def thumbnail(
        self, path: str, draw: Callable[[Image], Image] | None = None, *, side: int | None = None
    ) -> str | None:
        """Return a small picture of the image with this name in the predictions, with what `draw` adds to it.

        Its longer side has at most `side` pixels; None: as many as the small pictures of tables.
        """

    def heat_map(self, result: Mapping[str, Any], path: str, answer: int) -> str | None:
        """Return what in the crop of an image speaks for one of the network's outputs."""


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """How the results of a task are shown. Of what is None, the metric alone is shown."""

    # Of the counts of a validation, in the log and in the result of a training run.
    check_counts: Check
    # The metric from such counts, or from a result.
    measured: Callable[[Mapping[str, Any]], Measured]
    # An evaluation from its name, its result and its rows, which come one by one; Unfit: they are of another result.
    collect: Callable[[str, Mapping[str, Any], Iterable[Any]], Any] = collect
    facts: Sequence[str] = ()  # fields of a result that decided the numbers, beside those of every task
    # Names and texts of the task's columns in the table that an evaluation prints, and the lines below that table.
    columns_of_result: Callable[[Mapping[str, Any]], dict[str, str]] | None = None
    lines: Callable[[Mapping[str, Any]], list[str]] = lambda result: []
    closing_lines: Callable[[Mapping[str, Any]], list[str]] = lambda result: []  # after those on speed
    # An answer of `Evaluation.answer`: drawn on its upright image (None: there is nothing to draw), and as rows of a
    # table behind the name of the image, of which there may be none, under these heads (none: it is no table).
    draw: Callable[[Image, Mapping[str, Any]], Image] | None = None
    answer_heads: Sequence[str] = ()
    answer_rows: Callable[[Mapping[str, Any]], list[Sequence[Any]]] = lambda answer: []
    # On the report page: the numbers of one evaluation that one looks for first, columns of the table of all, sections.
    tiles: Callable[[Any], list[Tile]] | None = None
    columns: Callable[[Sequence[Any]], tuple[list[str], list[list[Cell]]]] | None = None  # heads, and cells of each
    remarks: Callable[[Any], list[str]] = lambda evaluation: []  # warnings below the tiles
    sections: Callable[[Sequence[Any], PageImages], list[Section]] = lambda evaluations, images: []
    run_nouns: tuple[str, str] = ("training run", "training runs")  # what one run is called, and several
    # Sections of training runs, each a `mobilenext.runs.training_run.TrainingRun`, behind those that all tasks have.
    trained: Callable[[Sequence[Any]], list[Section]] = lambda runs: []
    # What is published of a network: its metric, on which data, and a chart of all networks beside these evaluations.
    # The chart is asked for beside a bench or where it suits the evaluations.
    published: Callable[[str], float | None] = lambda network: None
    published_on: str = ""  # such as ImageNet
    networks_chart: Callable[[Sequence[Any], bool], Chart | None] = lambda evaluations, bench: None
