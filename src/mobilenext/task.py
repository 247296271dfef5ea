"""What a task is: everything that training, evaluation and the report must know about what a network is asked.

A task is a record of functions in three parts, one for each stage that uses it. `mobilenext.tasks` finds a task by the
name that is stored in ``run.json``, in weights and in sidecars. Nothing here imports Paddle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from mobilenext.arrays import Outputs
from mobilenext.drawing.cells import interval_text
from mobilenext.errors import UsageError
from mobilenext.job import Training
from mobilenext.json_files import Unfit

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from PIL.Image import Image

    from mobilenext.data import Dataset
    from mobilenext.data.check import DataCheck
    from mobilenext.drawing.cells import Cell
    from mobilenext.drawing.chart import Chart
    from mobilenext.drawing.parts import Section, Tile
    from mobilenext.export.post_processing import PostProcessing
    from mobilenext.json_files import Check, Fields
    from mobilenext.sources.prepare import Prepared
    from mobilenext.weights.record import WeightsRecord

# What decides how a task reads outputs and rows, such as the number of classes: fields that have the same names in
# run.json, in the setup of a journal and in result.json, so any of the three files can supply them.
Facts: TypeAlias = Mapping[str, Any]
OwnRecord: TypeAlias = Any  # a `Record` of the task's own kind, and a `Dataset` of such records
OwnDataset: TypeAlias = Any


@dataclass(frozen=True)
class Metric:
    """The number that a task is judged by."""

    name: str  # in the fields of a result, such as top1
    unit: str  # of its differences, such as points
    larger_is_better: bool = True
    display: str = ""  # in a sentence, such as top-1; the name where it is empty
    noun: str = ""  # what it measures, such as accuracy; `display` where it is empty
    field: str = ""  # of its value in a result, such as top1_percent; the name where it is empty
    symbol: str = ""  # of its values, such as %

    def __post_init__(self) -> None:
        for name, default in (("display", self.name), ("field", self.name), ("noun", self.display or self.name)):
            object.__setattr__(self, name, getattr(self, name) or default)

    def difference_field(self, name: str) -> str:
        """Return the name of a field that holds a difference of its values, such as std_points."""
        return f"{name}_{self.unit}" if self.unit else name

    @property
    def title(self) -> str:
        """Return the name as it begins a heading."""
        return _capitalized(self.display)

    @property
    def heading(self) -> str:
        """The noun at the beginning of a heading."""
        return _capitalized(self.noun)

    @property
    def axis(self) -> str:
        """Return the name with the symbol of its values, for an axis."""
        return f"{self.display}, {self.symbol}" if self.symbol else self.display


def _capitalized(words: str) -> str:
    """Begin with a capital letter, except where there are capitals already, as in mAP."""
    return words if words != words.lower() else words[:1].upper() + words[1:]


# Evaluation: from outputs to rows, from rows to counts, from counts to a result.


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
        """Return the fields as they are stored, which `Evaluation.read_row` reads."""


class Counts(Protocol):
    """Sums over rows. Nothing is divided before the summary, so that parts of the data can be added up."""

    images: int  # rows that were added

    @property
    def correct(self) -> int | None:
        """Return the number of right answers so far, for a progress bar; None where a task has no such number."""

    def add(self, row: Any) -> None:
        """Count one row."""

    def to_bytes(self) -> bytes:
        """Return what the other processes need: sums, or all rows where a metric such as mAP is not a sum."""

    def merge(self, parts: Sequence[bytes]) -> None:
        """Become the counts of all processes, of which `parts` are `to_bytes`, this one's own among them."""


@dataclass(frozen=True)
class Evaluated:
    """Everything that the task's fields of a result are made of."""

    prepared: Prepared  # the network
    dataset: Dataset
    rows: Sequence[Any]  # of the task, in the order of the data set
    counts: Any  # of all rows, as `Evaluation.counts` makes them
    remarks: Sequence[str]  # on the sizes of the images beside that of the network


class OpenData(Protocol):
    """Opens the data of an evaluation."""

    def __call__(
        self, root: str | os.PathLike[str], *, list_file: str | os.PathLike[str] | None, split: str | None
    ) -> Dataset:
        """Return all records, checked as far as that needs no network.

        Raises:
            DatasetError: no data set of this task, or problems in it. UsageError: a list and a split at once.
        """


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the answers of a network are scored and shown.

    `rows`, `unreadable`, `read_row` and `counts` are pickled for worker processes: functions of a module.
    """

    open_data: OpenData
    # The data set as the network sees it, such as with the network's numbers of classes; DatasetError: it does not fit.
    fit_data: Callable[[OwnDataset, Prepared], OwnDataset]
    # Warnings about the data set, shown before the score.
    warnings: Callable[[OwnDataset, WeightsRecord], list[str]]
    # From a network and the options that `Task.options_of` returns; they are stored in the setup and in the result.
    facts: Callable[[WeightsRecord, Mapping[str, Any]], dict[str, Any]]
    rows: Callable[[Outputs, Sequence[OwnRecord], Facts], list[Any]]  # a row for each of N records
    unreadable: Callable[[OwnRecord, str], Any]  # the row of an image that cannot be read, and why
    # The row number N of a file from JSON; with a record, the row must be that record's. Unfit: what is wrong with it.
    read_row: Callable[[Any, int, Facts, OwnRecord | None], Any]
    counts: Callable[[Facts], Counts]  # of nothing
    # The task's fields of result.json; `images` and `unreadable` are counted for it where it does not name them.
    result: Callable[[Evaluated], dict[str, Any]]
    result_fields: Check  # of these fields, when they come back from the file
    # The answer of `predict` and of the server for each of N images, as JSON; options: those of `Task.options_of`;
    # sizes, of which each is (width, height) of an upright image; and names of the images, where they have some.
    answer: Callable[[Outputs, WeightsRecord, Mapping[str, Any]], list[dict[str, Any]]]
    # The lines that the command prints for such an answer.
    answer_lines: Callable[[Mapping[str, Any]], list[str]]
    # The options of `sources.options.Answering` that mean something to the task, with checks of their values. With
    # `flip`, `rows` and `answer` get the outputs for the mirrored images behind those for the images.
    options: Fields = field(default_factory=dict)
    # Files that an evaluation writes beside result.json: their names and contents.
    files: Callable[[Evaluated], Mapping[str, bytes]] = lambda evaluated: {}


# Presentation: a result in words, tables and charts.


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
    # What is published of a network: its metric, on which data, and a chart of all networks beside these evaluations.
    # The chart is asked for beside a bench or where it suits the evaluations.
    published: Callable[[str], float | None] = lambda network: None
    published_on: str = ""  # such as ImageNet
    networks_chart: Callable[[Sequence[Any], bool], Chart | None] = lambda evaluations, bench: None


# Export: the answers that an export is compared by, and what may follow the network in its files.


@dataclass(frozen=True, kw_only=True)
class Export:
    """What the export of a network needs of its task beside the names of the outputs, which the network has."""

    # The outputs of Paddle's network and of the export for the same images: fields of the parity, and what is wrong.
    agreement: Callable[[Outputs, Outputs, WeightsRecord], tuple[dict[str, Any], str | None]] = (
        lambda expected, outputs, record: ({}, None)
    )
    # Of a quantization: fields of a result that its report repeats (none: that of the metric), and the answer in a row,
    # of which the equal ones are counted.
    scores: Sequence[str] = ()
    answer: Callable[[Any], Any] | None = None
    # What follows the network to its answers: decoding and suppression of boxes, for one.
    post_processing: PostProcessing | None = None


@dataclass(frozen=True)
class Task:
    """A task by its name."""

    name: str
    metric: Metric
    training: Training
    evaluation: Evaluation
    presentation: Presentation
    export: Export = Export()
    data_check: DataCheck | None = None  # None: there is no check of its data before anything is computed

    def options_of(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of an answer that have a value.

        Raises:
            UsageError: one that means nothing to the task, or a value out of its range.
        """
        checks = self.evaluation.options
        values = {name: value for name, value in options.items() if value is not None}
        for name, value in values.items():
            if name not in checks:
                takes = f"it takes {', '.join(checks)}" if checks else "it takes no option of answers"
                raise UsageError(f"{name} means nothing to a network for {self.name}; {takes}")
            try:
                checks[name](value, name)
            except Unfit as error:
                raise UsageError(str(error)) from error
        return values
