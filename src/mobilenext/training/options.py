"""The keyword options of a training."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mobilenext.errors import UsageError
from mobilenext.job import DataOptions
from mobilenext.machine.packages import require


class PlanOptions(DataOptions, total=False):
    """Those that decide what is computed; a run that goes on has them from its ``run.json``.

    Keys:
        task: what the network is to answer, by the task's name; None: what the weights or the model are for.
        use: which weights of a checkpoint that has both: ``raw``, ``ema`` or ``auto``.
        section: the key path of the weights in a checkpoint that has several.
        identity_divisor: None takes the weights' (or 1).
        seed: of initialization, order, augmentation and dropout (default 0).
        backbone: a file or a tag of weights of another task, for the backbone of the network; the rest is fresh.
        train_list, val_list: other list files.
        train_split: what is trained on: the name of a part, or of several with commas.
        val_split: what validates: the name of a part, ``test`` for one, or a share of the training images, 0.2 for one,
            drawn from `seed`. The folder of the run keeps the lists of the images that were drawn.
        num_classes: None takes the data's. Another number than the weights' makes a fresh classifier, which is logged.
        labels: a name for each class, or a file of them; stored with the weights.
    """

    task: str | None
    use: str | None
    section: str | None
    identity_divisor: int | None
    seed: int | None
    backbone: str | os.PathLike[str] | None


class TrainOptions(PlanOptions, total=False):
    """All, with those that decide how a run is carried out and not what it computes.

    Keys:
        device: ``auto``, ``cpu`` or ``gpu``.
        threads: of this process, on a CPU (default 1).
        workers: processes that read images, 0 for none (default: none where the data fit in memory).
        max_unreadable: the number of training images that may be unreadable; they are left out, counted and listed.
        log_every: steps between two rows of the log (default 20).
        save_every: seconds between two checkpoints within an epoch (default 600; 0: each step).
        to_static: compile the network to a graph by ``paddle.jit.to_static``; on a CPU that is slower.
        visualdl: write scalars for VisualDL, too.
    """

    device: str
    threads: int | None
    workers: int | None
    max_unreadable: int
    log_every: int
    save_every: float
    to_static: bool
    visualdl: bool


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; what it computes does not depend on it.

    Raises:
        UsageError: a number that is too small. MissingDependency: no VisualDL.
    """

    device: str
    threads: int
    workers: int | None = None
    max_unreadable: int = 0
    log_every: int = 20
    save_every: float = 600.0
    to_static: bool = False
    visualdl: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("threads", 1), ("workers", 0), ("max_unreadable", 0), ("log_every", 1), ("save_every", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{name} is {value!r}; expected {least} or more")
        if self.visualdl:
            require(["visualdl"], "visualdl", "--visualdl")
