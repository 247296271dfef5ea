"""What training must know about a task: its data, recipes, batches, loss, steps, and the words of its log.

`Training` is the record of it. `Job` is what a run is made of, once its data and its recipe are known; a `Stepper`
makes its steps. Nothing here imports Paddle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.seeds import generator

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import paddle
    from paddle import nn

    from mobilenext.data import Dataset, Record
    from mobilenext.json_files import Fields
    from mobilenext.machine.pool import WorkerPool
    from mobilenext.machine.ranks import Ranks
    from mobilenext.models import ModelCard
    from mobilenext.recipe import Recipe
    from mobilenext.weights.record import Weights


# What a run is before anything is computed.


class DataOptions(TypedDict, total=False):
    """Keywords of a training that name its data; a task refuses those that mean nothing to it."""

    train_list: str | os.PathLike[str] | None
    val_list: str | os.PathLike[str] | None
    train_split: str | None  # the name of a part, or of several with commas
    val_split: str | float | None  # the name of a part, or a share of the training images
    num_classes: int | None
    labels: str | os.PathLike[str] | Iterable[str] | None  # names, or a file of them


@dataclass(frozen=True)
class DataRequest:
    """Which data a run is asked to train on."""

    root: Path
    seed: int
    options: DataOptions = field(default_factory=DataOptions)
    first: Weights | None = None  # that a new run begins with, of the whole network
    recipe: Recipe | None = None  # of the run, also of one that goes on
    settings: frozenset[str] = frozenset()  # names of the recipe's fields that somebody has set


@dataclass(frozen=True)
class Parts:
    """The two parts of a run's data, and what the run stores of them."""

    train: Dataset
    val: Dataset
    stored: Mapping[str, Any]  # the task's own fields of run.json, which decide what is computed
    data: Mapping[str, Any] = field(default_factory=dict)  # the same of its field `data`
    first: Mapping[str, Any] = field(default_factory=dict)  # the same of its field `weights`, the first weights
    warnings: tuple[str, ...] = ()  # are logged, and kept in result.json
    remarks: tuple[str, ...] = ()  # are logged before the training
    lists: Mapping[str, bytes] = field(default_factory=dict)  # files of the run's folder, which `reopen_parts` reads


# What a run computes.


@dataclass(frozen=True)
class Batch:
    """One process' part of a batch of N images."""

    inputs: Floats  # [N, C, H, W], normalized
    targets: Mapping[str, Any]  # sequences of N: an array [N, ...], or a list where the images' targets differ in shape
    shared: Any = None  # what belongs to the batch as a whole, such as how its images are mixed
    reader_seconds: float = 0.0  # that the loop waited for it

    def __len__(self) -> int:
        return len(self.inputs)

    def split(self, count: int) -> Iterator[Batch]:
        """Yield `count` consecutive parts of nearly equal size, without empty ones."""
        for indices in np.array_split(np.arange(len(self)), count):
            if len(indices):
                part = slice(int(indices[0]), int(indices[-1]) + 1)
                targets = {name: values[part] for name, values in self.targets.items()}
                yield Batch(self.inputs[part], targets, self.shared)


@dataclass(frozen=True)
class Place:
    """Where in a run a training batch stands: all that its random numbers depend on."""

    seed: int
    epoch: int
    step: int
    draws: Sequence[int]  # a number for each image of this process' part, different where an image comes twice
    whole: Sequence[Record]  # of the batch of all processes

    def image_generators(self, purpose: int) -> list[np.random.Generator]:
        """Return a generator for each image."""
        return [generator(self.seed, self.epoch, draw, purpose) for draw in self.draws]

    def batch_generator(self, purpose: int) -> np.random.Generator:
        """Return the generator for the batch, the same in all processes."""
        return generator(self.seed, self.epoch, self.step, purpose)


class Sampler(Protocol):
    """Turns an image into what a batch is made of. Small, and picklable: workers get it with every call."""

    def __call__(self, image: Any, record: Record, random: np.random.Generator | None) -> Any:
        """Return the sample of a picture of mode "RGB": augmented by `random`, or as in evaluation where it is None.

        Raises:
            ImageError: the picture cannot be used.
        """


class Job(Protocol):
    """What one run of a task computes, in one of its processes."""

    sample: Sampler
    counted: tuple[str, ...]  # names of what `loss` counts
    chance: float  # loss per image of a network that guesses; a loss far above it has diverged
    scalars: tuple[str, ...]  # fields of a validation's summary that are drawn beside the loss

    def order(
        self, records: Sequence[Record], random: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the positions [N] of the images of an epoch, and how often each has come before in it [N]."""

    def collate(self, samples: Sequence[Any], records: Sequence[Record], place: Place | None) -> Batch:
        """Return the batch of samples: stacked, normalized, and with a `place`, in training, mixed or erased."""

    def divisor(self, batch: Batch, ranks: Ranks) -> float | None:
        """Return what the sum of the losses over the whole batch, of all processes, is divided by.

        It is a number above 0, also for a batch without a single target; None stands for the recipe's batch size. Every
        process calls it once a step, so it may exchange numbers, such as those of matched anchors.
        """

    def loss(self, outputs: tuple[paddle.Tensor, ...], batch: Batch) -> tuple[paddle.Tensor, tuple[paddle.Tensor, ...]]:
        """Return the SUM of the losses over a part of a batch, and a sum for each name in `counted`."""

    def summary(self, counts: Any) -> dict[str, Any]:
        """Return the fields of a validation in the log and in ``result.json``."""

    def score(self, summary: Mapping[str, Any]) -> float | None:
        """Return the number by which the best weights are chosen, larger is better; None: it is not in this summary."""

    def measures(self, counted: Mapping[str, float], images: int) -> dict[str, float]:
        """Return fields of the log's rows from sums over the training images."""

    def describe_measures(self, measures: Mapping[str, float]) -> str:
        """Return them for the line on the screen."""

    def describe_summary(self, summary: Mapping[str, Any]) -> str:
        """Return a validation's summary for the line on the screen."""

    def weights_fields(self, network: nn.Layer) -> Mapping[str, Any]:
        """Return fields of the record of the network's weights: the task's own, and those that replace training's.

        It is called for every file of weights, so they may differ from one epoch to the next, as the architecture that
        a search has found so far.
        """


# How a run makes its steps.


@dataclass
class Reading:
    """What the feeders of a run have met in one process, all together."""

    unreadable: dict[str, str] = field(default_factory=dict)  # by the name of a file: what is wrong with it
    seconds: float = 0.0  # that the steps have waited for images since the last row of the log


@dataclass(frozen=True)
class Feed:
    """How the feeders of a run cut images into batches; they share one `reading`."""

    seed: int  # of order and augmentation
    batch_size: int  # over all processes
    rank: int = 0  # of this process
    world: int = 1  # number of processes
    max_unreadable: int = 0  # the number of unreadable images, of all feeders, that are left out of their batches
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Setup:
    """What a stepper works with, in one process of a run."""

    recipe: Recipe
    job: Job
    ranks: Ranks
    feed: Feed  # of this run, for a feeder of the stepper's own; its seed is that of dropout, too
    pool: WorkerPool | None = None  # processes that read images; None: this one reads them
    begin_epoch: Callable[[Recipe, nn.Layer, int, int], None] | None = None  # of the task, see `Training`


def raise_drop_path(recipe: Recipe, network: nn.Layer, epoch: int, epochs: int) -> None:
    """Set the probability of drop-path in an epoch: it rises in a straight line from 0 to just below the recipe's.

    Args:
        recipe: of the run.
        network: that is trained; with a `drop_path` it has `set_drop_path`.
        epoch: that begins, from 0; or that goes on.
        epochs: their number.
    """
    if recipe.drop_path:
        network.set_drop_path(recipe.drop_path * epoch / epochs)


@dataclass(frozen=True)
class EpochReport:
    """What a stepper says of an epoch that has ended."""

    fields: Mapping[str, Any] = field(default_factory=dict)  # of the epoch's row in the log, as JSON can hold them
    lines: Sequence[str] = ()  # on the screen


class Stepper(Protocol):
    """Makes one step after another. What it keeps between two steps becomes parts of the checkpoint.

    A search of architectures is one with a second optimizer, and a feeder of its own on other images. Methods with a
    body have it where a class is derived from this one.
    """

    done: bool = False  # whether the run ends with this epoch; part of what `values` returns

    def __call__(self, batch: Batch, global_step: int, rate: float) -> list[paddle.Tensor]:
        """Change the network's weights by this process' part of a batch.

        Args:
            batch: of the process.
            global_step: the number of the step in the run, from 0.
            rate: the learning rate.

        Returns:
            For each part of the process' batch its sums as float64 [2 + counted], left on the device: the loss, the
            images, and what the job counts.
        """

    def parts(self) -> Mapping[str, Mapping[str, Floats]]:
        """Return the stepper's own parts of the checkpoint, such as ``optimizer``.

        The names of the parts are the same before the first step and after it; a part may be empty only before it.
        """

    def values(self) -> dict[str, Any] | None:
        """Return what else must be stored, as JSON can hold it."""

    def restore(self, parts: Mapping[str, Mapping[str, Floats]], values: Mapping[str, Any] | None) -> None:
        """Take over what `parts` and `values` returned, before the first step."""

    def passes(self, first: int, last: int) -> float:
        """Return the passes through the network that the steps from `first` to before `last` of the run take.

        One pass is forward and backward over one batch. The time that is left is told by it.
        """
        return last - first

    def finish_epoch(self, epoch: int) -> EpochReport:
        """Return what there is to say of the epoch number `epoch`, from 0, and decide whether the run is done.

        It is called in all processes, once more where a run is killed before the epoch's checkpoint.
        """
        del epoch
        return EpochReport()

    def files(self) -> Mapping[str, bytes]:
        """Return files of the run's folder by name: they follow from the state, and are written with checkpoints."""
        return {}

    def result(self, evaluate: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the stepper's fields of ``result.json``, and log what there is to say at the end of a run.

        It is called in all processes.

        Args:
            evaluate: returns a summary of the network, as it is, on the validation images.
        """
        del evaluate
        return {}


@dataclass(frozen=True)
class Training:
    """How a task is trained."""

    recipe: type[Recipe]  # the record of its recipes
    recipes: Mapping[str, Recipe]
    from_scratch: str  # the recipe where none is named
    from_weights: str  # the same for a run that begins with weights
    open_parts: Callable[[DataRequest], Parts]
    # The same for a run that goes on, from its run.json, its data where they lie now, and the folder of the run.
    reopen_parts: Callable[[Mapping[str, Any], DataRequest, Path], Parts]
    # The network with its first weights, from run.json and the file of the weights.
    build: Callable[[Mapping[str, Any], Path | None], nn.Layer]
    job: Callable[[Mapping[str, Any], Recipe, Parts], Job]  # from run.json; raises UsageError for what does not fit
    stored: Fields  # checks of the task's own fields of run.json
    describe: Callable[[Mapping[str, Any]], str]  # what the network answers, from run.json, for people
    has_backbone: bool = False  # whether its networks have a backbone that can begin with weights of another task
    workers: int = 0  # processes that read images which would fit in memory, on a CPU, where nobody says how many
    rehearses: bool = False  # whether a new run measures the passes of a step before it begins, and says what to expect
    # What makes the steps, for a network in training mode; None: gradient descent by the recipe's optimizer.
    stepper: Callable[[Setup, nn.Layer, Parts], Stepper] | None = None
    cards: Mapping[str, ModelCard] = field(default_factory=dict)  # of networks that this task alone has, by name
    verb: str = "train"  # of the command line, that goes on with a run by --resume
    # Is called before the first step of each epoch, and of one that goes on. What it sets depends on the epoch alone.
    begin_epoch: Callable[[Recipe, nn.Layer, int, int], None] = raise_drop_path
