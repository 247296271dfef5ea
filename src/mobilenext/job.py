"""What training must know about a task: its data, recipes, batches, loss, and the words of its log.

`Training` is the record of it. `Job` is what a run is made of, once its data and its recipe are known. Nothing here
imports Paddle.
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
    from mobilenext.machine.ranks import Ranks
    from mobilenext.recipe import Recipe
    from mobilenext.weights.record import Weights


# What a run is before anything is computed.


class DataOptions(TypedDict, total=False):
    """The keywords of a training that name its data; a task refuses those that mean nothing to it."""

    train_list: str | os.PathLike[str] | None
    val_list: str | os.PathLike[str] | None
    val_split: str | float | None  # the name of a part, or a share of the training images
    num_classes: int | None
    labels: str | os.PathLike[str] | Iterable[str] | None  # names, or a file of them


@dataclass(frozen=True)
class DataRequest:
    """Which data a run is asked to train on."""

    root: Path
    seed: int
    options: DataOptions = field(default_factory=DataOptions)
    first: Weights | None = None  # that a new run begins with


@dataclass(frozen=True)
class Parts:
    """The two parts of a run's data, and what the run stores of them."""

    train: Dataset
    val: Dataset
    stored: Mapping[str, Any]  # the task's own fields of run.json, which decide what is computed
    data: Mapping[str, Any] = field(default_factory=dict)  # the same of its field `data`
    first: Mapping[str, Any] = field(default_factory=dict)  # the same of its field `weights`, the first weights
    warnings: tuple[str, ...] = ()  # are logged, and kept in result.json
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
    weights_fields: Mapping[str, Any]  # the task's own fields of a record of weights
    scalars: tuple[str, ...]  # fields of a validation's summary that are drawn beside the loss

    def order(
        self, records: Sequence[Record], random: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the positions [N] of the images of an epoch, and how often each has come before in it [N]."""

    def collate(self, samples: Sequence[Any], records: Sequence[Record], place: Place | None) -> Batch:
        """Return the batch of samples: stacked, normalized, and with a `place`, in training, mixed or erased."""

    def divisor(self, batch: Batch, ranks: Ranks) -> float | None:
        """Return what the sum of the losses over the whole batch, of all processes, is divided by.

        None stands for the recipe's batch size. Every process calls it once a step, so it may exchange numbers, such as
        those of matched anchors.
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
