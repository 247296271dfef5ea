"""What a task is: everything that training, evaluation and the report must know about what a network is asked.

A task is a record of functions in parts, one for each stage that uses it. `mobilenext.tasks` finds a task by the
name that is stored in ``run.json``, in weights and in sidecars. Nothing here imports Paddle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mobilenext.arrays import Outputs
from mobilenext.errors import UsageError
from mobilenext.json_files import Unfit

if TYPE_CHECKING:
    import os

    from mobilenext.comparable import Comparison
    from mobilenext.data import Dataset
    from mobilenext.data.check import DataCheck
    from mobilenext.export.post_processing import PostProcessing
    from mobilenext.job import Training
    from mobilenext.json_files import Check, Fields
    from mobilenext.presentation import Presentation
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
    evaluation: Evaluation
    # Functions that import these parts: a prediction needs none of them, and they are most of a task's modules.
    load_training: Callable[[], Training]
    load_presentation: Callable[[], Presentation]
    load_data_check: Callable[[], DataCheck] | None = None  # None: its data cannot be checked in advance
    export: Export = Export()
    comparison: Comparison | None = None  # of answers in the logs of test drivers; None: there is none

    @property
    def training(self) -> Training:
        """How networks of the task are trained."""
        return self.load_training()

    @property
    def presentation(self) -> Presentation:
        """How runs and answers of the task are shown."""
        return self.load_presentation()

    @property
    def data_check(self) -> DataCheck | None:
        """The check of its data before anything is computed, if there is one."""
        return self.load_data_check() if self.load_data_check else None

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
