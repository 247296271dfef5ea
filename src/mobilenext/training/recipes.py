"""How to train: named, frozen records. The numbers are those of the paper, and of the runs that its authors released.

A recipe's learning rate holds for ``lr_batch_size`` images a step, over all processes; with another ``batch_size`` the
rate, and the one the warm-up starts from, are scaled in proportion (Goyal et al. 2017), and the log says so; ``min_lr``
is not. ``mobilenext recipes`` lists them all.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mobilenext.classification.augmentation import Augmentation
from mobilenext.classification.mixing import Mixing
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, nearest
from mobilenext.json_files import Check, Unfit, flag, many, number, optional, shown, text, whole

METRICS = ("top1", "mean_class_accuracy", "macro_f1", "loss")
HEADER = ("name", "source", "expected", "cost", "command")  # what a recipe says of itself; not to be set
_LARGEST = 1e38  # number in a recipe: float32 holds it
# Fields that recipes of earlier versions did not have. Where they have their defaults they are not stored, so that a
# run's record, and the checksum of it, are those of the version that began the run.
LATER = (
    "freeze", "freeze_bn", "class_weights", "sampling", "mixup", "cutmix", "mix_probability", "mix_switch",
    "best_metric", "patience",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run computes, but for the model, the data, the seed and first weights.

    Raises:
        UsageError: a value outside its range.
    """

    # What it is.
    name: str
    source: str
    expected: str  # top-1 that the source reports with it
    cost: str
    command: str

    # How long, and how many images at a time.
    epochs: int
    warmup_epochs: float = 0.0  # part of `epochs`; the rate rises in a straight line from `warmup_lr`
    cooldown_epochs: int = 0  # after `epochs`, at the rate that they ended with
    batch_size: int = 256  # images a step, over all processes
    accumulate: int = 1  # parts in which each process takes its share of a batch, to need less memory

    # Optimiser.
    optimizer: str = "sgd"  # sgd | rmsprop (as in TensorFlow: epsilon inside the root, averages start at 1)
    lr: float = 0.05
    lr_batch_size: int = 256  # the batch size that `lr` is meant for
    momentum: float = 0.9
    nesterov: bool = False
    rmsprop_decay: float = 0.9
    rmsprop_epsilon: float = 1e-3
    weight_decay: float = 4e-5
    decay_1d: bool = False  # whether biases and batch norms decay too

    # Schedule.
    schedule: str = "cosine"  # cosine | step
    schedule_by: str = "epoch"  # how often the rate changes: epoch | step
    min_lr: float = 0.0
    warmup_lr: float = 0.0
    step_epochs: float = 2.4  # schedule step: every so many epochs
    step_factor: float = 0.97  # ... the rate is multiplied by this

    # What is trained (see `freezing`), and what decides when it is done.
    freeze: str = "none"  # none | backbone (all but the classifier) | a number of blocks from the image on
    freeze_bn: str = "none"  # of all batch norms: none | statistics (the running ones are used and stay) | all
    best_metric: str = "top1"  # of METRICS, over the validation: decides which weights are the best
    patience: int = 0  # epochs without a better best_metric after which the run ends; 0: it never does

    # Classes of different sizes (see `balance`).
    class_weights: str = "none"  # in the loss: none | balanced | a number for each class, with commas
    sampling: str = "shuffle"  # shuffle: each image once an epoch | balanced: each class as often

    # Regularisation.
    label_smoothing: float = 0.0
    dropout: float | None = None  # None: what the network has
    drop_connect: float | None = None  # of the last block, rising to it; None: what the network has
    ema_decay: float = 0.0  # 0: none; the average covers weights and batch-norm statistics
    ema_warmup: bool = False  # min(decay, (1 + steps) / (10 + steps))
    mixup: float = 0.0  # alpha of Beta(alpha, alpha); 0: none (see `mixing`)
    cutmix: float = 0.0  # alpha; 0: none
    mix_probability: float = 1.0  # that a batch is mixed at all
    mix_switch: float = 0.5  # with both, the probability of cutmix

    # Images: see Augmentation; the validation's image is resized to image_size / crop_pct and cropped.
    image_size: int = 224
    crop_pct: float = 0.875
    eval_interpolation: str = "bicubic"
    crop: str = "random-resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "random"
    padding: int = 0
    flip: float = 0.5
    color_jitter: float = 0.0
    rand_augment: str = ""
    erasing: float = 0.0
    erasing_mode: str = "pixel"

    # Arithmetic.
    precision: str = "fp32"  # fp32 | bf16 | fp16: mixed, on a GPU
    sync_bn: bool = False  # batch-norm statistics over all processes

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int | float) and not abs(number) <= _LARGEST for number in numbers):
                raise UsageError(f"{field.name} is {shown(value)}; expected a finite number up to {_LARGEST:g}")
        for name in ("epochs", "batch_size", "accumulate", "lr_batch_size"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("lr", "step_epochs", "rmsprop_epsilon"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in (
            "warmup_epochs", "cooldown_epochs", "min_lr", "warmup_lr", "weight_decay", "mixup", "cutmix", "patience",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("momentum", "rmsprop_decay", "label_smoothing", "ema_decay", "dropout", "drop_connect"):
            self._require(name, 0 <= (getattr(self, name) or 0) < 1, "from 0 to below 1")
        for name in ("mix_probability", "mix_switch"):
            self._require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        self._require("step_factor", 0 < self.step_factor <= 1, "above 0 and up to 1")
        self._require("warmup_epochs", self.warmup_epochs < self.epochs, f"less than epochs ({self.epochs})")
        for name, known in (
            ("optimizer", ("sgd", "rmsprop")), ("schedule", ("cosine", "step")), ("schedule_by", ("epoch", "step")),
            ("precision", ("fp32", "bf16", "fp16")), ("freeze_bn", ("none", "statistics", "all")),
            ("sampling", ("shuffle", "balanced")), ("best_metric", METRICS),
        ):  # fmt: skip
            value = getattr(self, name)
            self._require(name, value in known, f"{' or '.join(known)}{nearest(str(value), known)}")
        blocks = self.freeze in ("none", "backbone") or (str(self.freeze).isdecimal() and int(self.freeze) > 0)
        self._require("freeze", blocks, "none, backbone or a number of blocks, such as 10")
        if self.class_weights not in ("none", "balanced"):
            weights = "none, balanced or a number above 0 for each class with commas, such as 1,1,2.5"
            self._require("class_weights", all(map(_is_weight, str(self.class_weights).split(","))), weights)
        self._require("image_size", self.image_size >= 32, "32 or more, the networks' stride")
        self.augmentation()  # they check their own values
        self.preprocessing()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def all_epochs(self) -> int:
        """Those of the schedule and of the cooldown."""
        return self.epochs + self.cooldown_epochs

    @property
    def scaled_lr(self) -> float:
        """The highest learning rate, scaled to the batch size."""
        return self.lr * self.batch_size / self.lr_batch_size

    def augmentation(self) -> Augmentation:
        """What is done to an image in training."""
        names = {field.name for field in dataclasses.fields(Augmentation)}
        return Augmentation(**{name: getattr(self, name) for name in names})

    def preprocessing(self) -> Preprocessing:
        """What is done to an image in validation, and stored with the weights."""
        return Preprocessing(image_size=self.image_size, crop_pct=self.crop_pct, interpolation=self.eval_interpolation)

    def mixing(self) -> Mixing:
        """How the images of a batch are mixed."""
        return Mixing(self.mixup, self.cutmix, self.mix_probability, self.mix_switch)

    def stored(self) -> dict[str, Any]:
        """As `to_dict`, without the fields of LATER that have their defaults: what ``run.json`` holds."""
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name in LATER}
        values = self.to_dict().items()
        return {name: value for name, value in values if name not in LATER or value != defaults[name]}

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON can hold it; `from_dict` gives an equal one back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """A record from what `to_dict` or `stored` gave.

        Raises:
            UsageError: a key that is not known or missing, or a value outside its range.
        """
        types = typing.get_type_hints(cls)
        try:
            for name, value in values.items():
                if name in types:
                    _check_of(str(types[name]))(value, name)
            fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            return cls(**fields)
        except (Unfit, TypeError) as error:
            raise UsageError(f"this is not a recipe: {error}") from error

    def lines(self, *, fields: bool) -> list[str]:
        """What it says of itself, and with `fields` all its values."""
        said = [f"    {name.ljust(8)}  {getattr(self, name)}" for name in HEADER[1:]]
        values = {name: value for name, value in self.to_dict().items() if name not in HEADER} if fields else {}
        width = max(map(len, values), default=0)
        return [self.name, *said, *(f"    {name.ljust(width)}  {value}" for name, value in values.items())]

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """A copy with some fields set by ``key=value`` texts.

        Raises:
            UsageError: no such field, or a value of another type or outside its range.
        """
        if isinstance(settings, str):
            raise UsageError(f"settings is the text {settings!r}; expected a list of such texts")
        types = typing.get_type_hints(type(self))
        known = [name for name in types if name not in HEADER]
        values: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            name = name.strip()
            if not equals:
                raise UsageError(f"--set {setting!r}; expected key=value, such as epochs=50")
            if name not in known:
                raise UsageError(
                    f"--set {setting!r}: no recipe has the field {name!r}{nearest(name, known)}\n"
                    f"known: {', '.join(known)}"
                )
            values[name] = _parsed(name, text.strip(), str(types[name]))
        return dataclasses.replace(self, **values)


def _check_of(kind: str) -> Check:
    """The check of a value from JSON for a field's type, which `kind` is the name of."""
    one = text() if "str" in kind else flag() if "bool" in kind else whole() if "int" in kind else number()
    if "tuple" in kind:
        return many(one, None if "..." in kind else 2)
    return optional(one) if "None" in kind else one


def _is_weight(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _parsed(name: str, text: str, kind: str) -> Any:
    """`text` as a value of the field's type, which `kind` is the name of."""
    try:
        if "None" in kind and text.lower() == "none":
            return None
        if "tuple" in kind:
            first, second = text.split(",")
            return (float(first), float(second))
        if "bool" in kind:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if "int" in kind:
            return int(text)
        return float(text) if "float" in kind else text
    except (ValueError, KeyError) as error:
        words = {"tuple": "two numbers with a comma", "bool": "true or false", "int": "a whole number"}
        expected = next((word for part, word in words.items() if part in kind), "a number")
        raise UsageError(f"--set {name}={text}: expected {expected}") from error


_PAPER = "Zhou et al. 2020"
_AUTHORS = "the arguments stored with the authors' checkpoints"
_NOT_MEASURED = "not measured here"

_RELEASED = Recipe(
    name="released",
    source=f"{_AUTHORS} 74_02 and 74_09 (batch 64 a process; their number is not recorded: 8 is assumed)",
    expected="74.02 % for x1_0, 74.09 % with --identity-divisor 2 (ImageNet-1k)",
    cost=_NOT_MEASURED,
    command="mobilenext train IMAGENET --model mobilenext_x1_0 --recipe released -o runs/x1_0",
    epochs=200,
    warmup_epochs=3,
    cooldown_epochs=10,
    batch_size=512,
    lr=0.1,
    lr_batch_size=512,
    nesterov=True,
    weight_decay=1e-4,
    min_lr=1e-5,
    warmup_lr=1e-4,
    label_smoothing=0.1,
    color_jitter=0.4,
)
_EFFICIENT = dataclasses.replace(
    _RELEASED,
    name="efficient",
    source=f"{_AUTHORS} 76_05 (batch 128 a process, 4 assumed) and 4_29M (8 processes of 64)",
    expected="76.05 % for S, 76.59 % for L, both by EMA (ImageNet-1k)",
    command="mobilenext train IMAGENET --model mobilenext_s --recipe efficient -o runs/s",
    epochs=500,
    cooldown_epochs=0,
    optimizer="rmsprop",
    lr=0.12,
    nesterov=False,
    weight_decay=1e-5,
    schedule="step",
    min_lr=0.0,
    warmup_lr=1e-6,
    ema_decay=0.9999,
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                name="paper",
                source=f"{_PAPER}, section on implementation, as a published note on the paper transcribes it",
                expected="74.0 % for x1_0 (ImageNet-1k); not stated: augmentation (as in `released`), warm-up (none)",
                cost=_NOT_MEASURED,
                command="mobilenext train IMAGENET --model mobilenext_x1_0 --recipe paper -o runs/x1_0",
                epochs=200,
                batch_size=256,
                lr=0.05,
                weight_decay=4e-5,
                color_jitter=0.4,
            ),
            _RELEASED,
            _EFFICIENT,
            dataclasses.replace(
                _EFFICIENT,
                name="efficient-aug",
                source=f"{_AUTHORS} 5_68M (8 processes of 64)",
                expected="76.79 % for L-Ghost by EMA (ImageNet-1k)",
                command="mobilenext train IMAGENET --model mobilenext_l_ghost --recipe efficient-aug -o runs/l_ghost",
                epochs=550,
                lr=0.048,
                color_jitter=0.0,
                rand_augment="rand-m9-mstd0.5",
                erasing=0.2,
                dropout=0.2,
                drop_connect=0.2,
            ),
            Recipe(
                name="finetune",
                source="this project: a short run from given weights, mild augmentation, an average of the weights",
                expected="depends on the data",
                cost="minutes to hours",
                command="mobilenext train DATA --model mobilenext_x1_0 --weights W --recipe finetune --num-classes 20 "
                "-o runs/mine",
                epochs=30,
                warmup_epochs=1,
                batch_size=64,
                lr=0.02,
                lr_batch_size=64,
                nesterov=True,
                weight_decay=1e-4,
                schedule_by="step",
                min_lr=1e-5,
                warmup_lr=1e-3,
                label_smoothing=0.1,
                ema_decay=0.998,
                ema_warmup=True,
                scale=(0.35, 1.0),
                color_jitter=0.2,
            ),
            Recipe(
                name="tiny",
                source="the run that made the PyTorch checkpoint of 20 Tiny-ImageNet classes (docs/training.md)",
                expected="60.7 % raw, 61.6 % EMA in PyTorch (1,000 images of 20 classes)",
                cost="25 minutes on one core",
                command="mobilenext train TINY20 --model mobilenext_x0_35 --recipe tiny -o runs/tiny20",
                epochs=44,
                warmup_epochs=2,
                batch_size=128,
                lr=0.1,
                lr_batch_size=128,
                nesterov=True,
                weight_decay=1e-4,
                decay_1d=True,
                schedule_by="step",
                min_lr=1e-5,
                warmup_lr=0.01,
                label_smoothing=0.1,
                ema_decay=0.998,
                ema_warmup=True,
                image_size=64,
                crop_pct=1.0,
                crop="pad",
                padding=6,
            ),
        )
    }
)


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: no such recipe; the nearest is named.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}{nearest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over the whole run. A pure function: resuming needs no schedule's state.

    The warm-up takes the place of the schedule's first epochs, which goes on after it as if it had run all the time
    (timm's convention, which the released runs had).
    """
    epoch = step // steps_per_epoch if recipe.schedule_by == "epoch" else step / steps_per_epoch
    peak, scale = recipe.scaled_lr, recipe.batch_size / recipe.lr_batch_size
    if epoch < recipe.warmup_epochs:
        start = recipe.warmup_lr * scale
        return start + (peak - start) * epoch / recipe.warmup_epochs
    epoch = min(epoch, recipe.epochs if recipe.schedule == "cosine" else epoch)
    if recipe.schedule == "step":
        return max(recipe.min_lr, peak * recipe.step_factor ** math.floor(epoch / recipe.step_epochs))
    return recipe.min_lr + (peak - recipe.min_lr) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
