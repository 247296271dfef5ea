"""Recipes: how to train, as a frozen record of everything that decides what a run computes.

The fields of this module are the same for every task. What only the task knows stands in two sub-records of its own
types, `objective` (the loss, and the number that decides which weights are best) and `augmentation`; `preprocessing` is
the third. In files and in ``--set`` all fields stand flat beside each other: ``lr``, ``flip``, ``crop_pct``.

A recipe's learning rate holds for ``lr_batch_size`` images a step, over all processes; with another ``batch_size`` the
rate, and the one the warm-up starts from, are scaled in proportion (Goyal et al. 2017), and the log says so; ``min_lr``
is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, nearest
from mobilenext.json_files import Unfit, shown
from mobilenext.recipe_fields import SUBRECORDS, flat_fields, later, nested
from mobilenext.recipe_values import check_finite, check_of, parsed

if TYPE_CHECKING:
    from typing import Self

HEADER = ("name", "source", "expected", "cost", "command")  # what a recipe says of itself; cannot be set


class Objective(Protocol):
    """What a task's training minimizes, and what its validation is judged by: a frozen dataclass of plain fields."""

    @property
    def best_metric(self) -> str:
        """Return the name of the number that decides which weights are best."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run computes, but for the model, the data, the seed and first weights.

    A task derives its own record, in which `objective` and `augmentation` have its own types.

    Raises:
        UsageError: a value outside its range.
    """

    # What the recipe is.
    name: str
    source: str
    expected: str  # score that the source reports with it
    cost: str
    command: str

    # How long, and how many images at a time.
    epochs: int
    warmup_epochs: float = 0.0  # part of `epochs`; the rate rises in a straight line from `warmup_lr`
    cooldown_epochs: int = 0  # after `epochs`, at the rate that they ended with
    steps: int = later(0)  # length of the schedule in steps, in place of `epochs`; the last epoch may then be shorter
    warmup_steps: int = later(0)  # length of the warm-up in steps, in place of `warmup_epochs`
    batch_size: int = 256  # images a step, over all processes
    accumulate: int = 1  # parts in which each process takes its share of a batch, to need less memory

    # Optimizer.
    optimizer: str = "sgd"  # sgd | rmsprop (as in TensorFlow: epsilon inside the root, averages start at 1)
    lr: float = 0.05
    lr_batch_size: int = 256  # the batch size that `lr` is meant for
    momentum: float = 0.9
    nesterov: bool = False
    rmsprop_decay: float = 0.9
    rmsprop_epsilon: float = 1e-3
    weight_decay: float = 4e-5
    decay_1d: bool = False  # whether biases and batch norms decay too
    clip_norm: float = later(0.0)  # the norm of all gradients together is cut down to this; 0: it is not

    # Schedule (see `mobilenext.training.schedule`).
    schedule: str = "cosine"  # cosine | step | milestones
    schedule_by: str = "epoch"  # how often the rate changes: epoch | step; with `steps`, each step
    min_lr: float = 0.0
    warmup_lr: float = 0.0
    warmup_factor: float = later(0.0)  # the warm-up starts at this share of the highest rate; 0: at `warmup_lr`
    step_epochs: float = 2.4  # schedule step: the number of epochs after which
    step_factor: float = 0.97  # ... the rate is multiplied by this
    milestones: tuple[float, ...] = later(())  # schedule milestones: after each of these epochs, or with `steps` steps,
    milestone_factor: float = later(0.1)  # ... the rate is multiplied by this

    # What is trained (see `mobilenext.training.freezing`), and when it is done.
    freeze: str = later("none")  # none | backbone (all but the head) | a number of blocks from the image on
    freeze_bn: str = later("none")  # of all batch norms: none | statistics (the running ones are used and stay) | all
    validate_every: int = later(1)  # epochs from one validation to the next; the last epoch has one always
    patience: int = later(0)  # epochs without a better score after which the run ends; 0: it never does

    objective: Objective

    # Regularization.
    dropout: float | None = None  # None: what the network has
    drop_connect: float | None = None  # of the last block, rising to it; None: what the network has
    drop_path: float = later(0.0)  # of the operators of cells after the last epoch, rising to it from 0 in the first
    ema_decay: float = 0.0  # 0: none; the average covers weights and batch-norm statistics
    ema_warmup: bool = False  # min(decay, (1 + steps) / (10 + steps))

    # Images: in validation (resized to image_size / crop_pct and cropped; stored with the weights), and in training.
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    augmentation: Any

    # Arithmetic.
    precision: str = "fp32"  # fp32 | bf16 | fp16: mixed, on a GPU
    sync_bn: bool = False  # batch-norm statistics over all processes

    def __post_init__(self) -> None:
        check_finite(self.to_dict())
        for name in ("epochs", "batch_size", "accumulate", "lr_batch_size", "validate_every"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("lr", "step_epochs", "rmsprop_epsilon"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in (
            "warmup_epochs", "cooldown_epochs", "steps", "warmup_steps", "min_lr", "warmup_lr", "weight_decay",
            "patience", "clip_norm",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("momentum", "rmsprop_decay", "ema_decay", "dropout", "drop_connect", "drop_path"):
            self._require(name, 0 <= (getattr(self, name) or 0) < 1, "from 0 to below 1")
        for name in ("step_factor", "milestone_factor"):
            self._require(name, 0 < getattr(self, name) <= 1, "above 0 and up to 1")
        for name, choices in (
            ("optimizer", ("sgd", "rmsprop")), ("schedule", ("cosine", "step", "milestones")),
            ("schedule_by", ("epoch", "step")), ("precision", ("fp32", "bf16", "fp16")),
            ("freeze_bn", ("none", "statistics", "all")),
        ):  # fmt: skip
            value = getattr(self, name)
            self._require(name, value in choices, f"{' or '.join(choices)}{nearest(str(value), choices)}")
        blocks = self.freeze in ("none", "backbone") or (str(self.freeze).isdecimal() and int(self.freeze) > 0)
        self._require("freeze", blocks, "none, backbone or a number of blocks, such as 10")
        self._check_schedule()
        sizes = (self.preprocessing.image_size, self.augmentation.image_size)
        if sizes[0] != sizes[1]:
            raise UsageError(f"image_size is {sizes[0]} in validation and {sizes[1]} in training; expected one size")

    def _check_schedule(self) -> None:
        length, unit = (self.steps, "steps") if self.steps else (self.epochs, "epochs")
        if not self.steps:
            advice = f"set it too, such as --set warmup_epochs={self.epochs / 10:g}, or 0 for no warm-up"
            expected = f"less than epochs ({self.epochs}): {advice}"
            self._require("warmup_epochs", self.warmup_epochs < self.epochs, expected)
        elif self.warmup_steps:
            self._require("warmup_steps", self.warmup_steps < self.steps, f"less than steps ({self.steps})")
        self._require("warmup_factor", 0 <= self.warmup_factor <= 1, "from 0 to 1")
        rising = all(a < b for a, b in zip((0, *self.milestones), (*self.milestones, length), strict=True))
        if self.schedule == "milestones" and not (self.milestones and rising):
            raise UsageError(
                f"milestones is {shown(self.milestones)} with schedule milestones; expected rising numbers of {unit} "
                f"between 0 and {length}, such as --set milestones={length * 2 // 3},{length * 5 // 6}"
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def scaled_lr(self) -> float:
        """Return the highest learning rate, scaled to the batch size."""
        return self.lr * self.batch_size / self.lr_batch_size

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the steps of the schedule and of the cooldown."""
        return (self.steps or self.epochs * steps_per_epoch) + self.cooldown_epochs * steps_per_epoch

    def total_epochs(self, steps_per_epoch: int) -> int:
        """Return the epochs of the schedule and of the cooldown; with `steps` the last one may be shorter."""
        if not self.steps:
            return self.epochs + self.cooldown_epochs
        return -(-self.total_steps(steps_per_epoch) // max(1, steps_per_epoch))

    # The record as flat fields.

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, flat, as JSON can hold them; `from_dict` gives an equal record back."""
        values = {name: field.value(self) for name, (field, *_) in flat_fields(type(self)).items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def stored(self) -> dict[str, Any]:
        """Return the fields as `to_dict`, without those of later versions at their default: what ``run.json`` holds."""
        fields = flat_fields(type(self))
        values = self.to_dict()
        return {name: values[name] for name, (field, *_) in fields.items() if not field.is_unset(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the record of what `to_dict` or `stored` gave.

        Raises:
            UsageError: a key that is not known or missing, or a value outside its range.
        """
        fields = flat_fields(cls)
        try:
            for name, value in values.items():
                if name not in fields:
                    raise Unfit(f"no field is called {name}")
                check_of(fields[name][0].type)(value, name)
            return cls(**nested(cls, values))
        except (Unfit, TypeError) as error:
            raise UsageError(f"this is not a recipe: {error}") from error

    def replace(self, **values: Any) -> Self:
        """Return a copy in which these flat fields have other values.

        Raises:
            UsageError: a value outside its range.
        """
        records = {part: getattr(self, part) for part in SUBRECORDS}
        return dataclasses.replace(self, **nested(type(self), values, records))

    @classmethod
    def settable(cls) -> list[str]:
        """Return the names of the fields that can be set."""
        return [name for name in flat_fields(cls) if name not in HEADER]

    def with_settings(self, settings: Iterable[str]) -> Self:
        """Return a copy with some fields set by ``key=value`` texts.

        Raises:
            UsageError: no such field, or a value of another type or outside its range.
        """
        if isinstance(settings, str):
            raise UsageError(f"settings is the text {settings!r}; expected a list of such texts")
        places = flat_fields(type(self))
        fields = {name: places[name][0] for name in self.settable()}
        values: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            name = name.strip()
            if not equals:
                raise UsageError(f"--set {setting!r}; expected key=value, such as epochs=50")
            if name not in fields:
                raise UsageError(
                    f"--set {setting!r}: no recipe has the field {name!r}{nearest(name, fields)}\n"
                    f"known: {', '.join(fields)}"
                )
            values[name] = parsed(name, text.strip(), fields[name].type)
        return self.replace(**values)

    def lines(self, *, fields: bool) -> list[str]:
        """Return the recipe's description as lines for people, and with `fields` all its values."""
        header = [f"    {name.ljust(8)}  {getattr(self, name)}" for name in HEADER[1:]]
        values = {name: value for name, value in self.to_dict().items() if name not in HEADER} if fields else {}
        width = max(map(len, values), default=0)
        return [self.name, *header, *(f"    {name.ljust(width)}  {value}" for name, value in values.items())]
