"""The keyword options of a training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mobilenext.errors import UsageError
from mobilenext.job import DataOptions
from mobilenext.machine.packages import require


class PlanOptions(DataOptions, total=False):
    """Those that decide what is computed; a run that goes on has them from its ``run.json``."""

    task: str | None  # None: that of the weights or of the model
    use: str | None  # raw | ema | auto: which weights of a checkpoint that has both
    section: str | None  # key path of the weights in a checkpoint that has several
    identity_divisor: int | None  # None: the weights', or 1
    seed: int | None  # of initialization, order, augmentation and dropout (default 0)


class TrainOptions(PlanOptions, total=False):
    """All, with those that decide how a run is carried out and not what it computes."""

    device: str  # auto | cpu | gpu
    threads: int | None  # of this process, on a CPU (default 1)
    workers: int | None  # processes that read images, 0 for none (default: none where the data fit in memory)
    max_unreadable: int  # so many training images may be unreadable
    log_every: int  # steps between two rows of the log
    save_every: float  # seconds between two checkpoints within an epoch (0: each step)
    to_static: bool  # compile the network to a graph
    visualdl: bool  # write scalars for VisualDL, too


def refuse_unknown(names: Iterable[str], known: Iterable[str], function: str) -> None:
    """Raise TypeError, as Python does, for a keyword that `function` does not have."""
    known = set(known)
    for name in names:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


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
