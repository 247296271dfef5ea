"""The recipes of classification: the numbers of the paper, and of the runs that its authors released.

``mobilenext recipes`` lists them all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mobilenext.classification.augmentation import Augmentation
from mobilenext.classification.mixing import Mixing
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, nearest
from mobilenext.recipe import Recipe
from mobilenext.recipe_fields import later

METRICS = ("top1", "mean_class_accuracy", "macro_f1", "loss")  # any of them can decide which weights are the best
FROM_SCRATCH, FROM_WEIGHTS = "released", "finetune"  # where no recipe is named


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of classification, and what it is judged by.

    Raises:
        UsageError: a value outside its range.
    """

    best_metric: str = later("top1")  # of METRICS, over the validation: decides which weights are the best

    # Classes of different sizes (see `balance`).
    class_weights: str = later("none")  # in the loss: none | balanced | a number for each class, with commas
    sampling: str = later("shuffle")  # shuffle: each image once an epoch | balanced: each class as often

    label_smoothing: float = 0.0
    mixup: float = later(0.0)  # alpha of Beta(alpha, alpha); 0: none (see `mixing`)
    cutmix: float = later(0.0)  # alpha; 0: none
    mix_probability: float = later(1.0)  # that a batch is mixed at all
    mix_switch: float = later(0.5)  # with both, the probability of cutmix
    # Of the loss of the second head that a network of cells has in training, which is added; 0: it has none.
    auxiliary_weight: float = later(0.0)

    def __post_init__(self) -> None:
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1")
        for name in ("mixup", "cutmix", "auxiliary_weight"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        for name in ("mix_probability", "mix_switch"):
            self._require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name, choices in (("sampling", ("shuffle", "balanced")), ("best_metric", METRICS)):
            value = getattr(self, name)
            self._require(name, value in choices, f"{' or '.join(choices)}{nearest(str(value), choices)}")
        if self.class_weights not in ("none", "balanced"):
            weights = "none, balanced or a number above 0 for each class with commas, such as 1,1,2.5"
            self._require("class_weights", all(map(_is_weight, str(self.class_weights).split(","))), weights)

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def mixing(self) -> Mixing:
        """Return how the images of a batch are mixed."""
        return Mixing(self.mixup, self.cutmix, self.mix_probability, self.mix_switch)


def _is_weight(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class ClassificationRecipe(Recipe):
    """How a classifier is trained."""

    objective: Objective = field(default_factory=Objective)
    augmentation: Augmentation = field(default_factory=Augmentation)


_PAPER = "Zhou et al. 2020"
_AUTHORS = "the arguments stored with the authors' checkpoints"
_NOT_MEASURED = "not measured here"

_RELEASED = ClassificationRecipe(
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
    objective=Objective(label_smoothing=0.1),
    augmentation=Augmentation(color_jitter=0.4),
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

# Networks of cells, as their authors trained them. The schedule goes by epochs, and every parameter decays.
_CIFAR = Preprocessing(
    image_size=32,
    crop_pct=1.0,
    mean=(0.49139968, 0.48215827, 0.44653124),
    std=(0.24703233, 0.24348505, 0.26158768),
)
_DARTS_CIFAR = ClassificationRecipe(
    name="darts-cifar",
    source="the arguments of quark0/darts, cnn/train.py (Liu et al. 2019); an epoch leaves out its last, smaller batch",
    expected="97.2 % on CIFAR-10 for the cell of the second order at 36 channels, 20 cells (published)",
    cost=_NOT_MEASURED,
    command="mobilenext train CIFAR10 --model RUN/architecture.json --recipe darts-cifar -o runs/found",
    epochs=600,
    batch_size=96,
    lr=0.025,
    lr_batch_size=96,
    weight_decay=3e-4,
    decay_1d=True,
    clip_norm=5.0,
    objective=Objective(auxiliary_weight=0.4),
    drop_path=0.2,
    preprocessing=_CIFAR,
    augmentation=Augmentation(image_size=32, crop="pad", padding=4, cutout=16),
)

RECIPES: Mapping[str, ClassificationRecipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            ClassificationRecipe(
                name="paper",
                source=f"{_PAPER}, section on implementation, as a published note on the paper transcribes it",
                expected="74.0 % for x1_0 (ImageNet-1k); not stated: augmentation (as in `released`), warm-up (none)",
                cost=_NOT_MEASURED,
                command="mobilenext train IMAGENET --model mobilenext_x1_0 --recipe paper -o runs/x1_0",
                epochs=200,
                batch_size=256,
                lr=0.05,
                weight_decay=4e-5,
                augmentation=Augmentation(color_jitter=0.4),
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
                augmentation=Augmentation(rand_augment="rand-m9-mstd0.5", erasing=0.2),
                dropout=0.2,
                drop_connect=0.2,
            ),
            ClassificationRecipe(
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
                objective=Objective(label_smoothing=0.1),
                ema_decay=0.998,
                ema_warmup=True,
                augmentation=Augmentation(scale=(0.35, 1.0), color_jitter=0.2),
            ),
            ClassificationRecipe(
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
                objective=Objective(label_smoothing=0.1),
                ema_decay=0.998,
                ema_warmup=True,
                preprocessing=Preprocessing(image_size=64, crop_pct=1.0),
                augmentation=Augmentation(image_size=64, crop="pad", padding=6),
            ),
            _DARTS_CIFAR,
            ClassificationRecipe(
                name="darts-imagenet",
                source="the arguments of quark0/darts, cnn/train_imagenet.py, with the 250 epochs of the paper; the "
                "authors vary the hue, too",
                expected="73.3 % on ImageNet-1k for the cell of the second order at 48 channels, 14 cells (published)",
                cost=_NOT_MEASURED,
                command="mobilenext train IMAGENET --model RUN/architecture.json --recipe darts-imagenet -o runs/found",
                epochs=250,
                batch_size=128,
                lr=0.1,
                lr_batch_size=128,
                weight_decay=3e-5,
                decay_1d=True,
                clip_norm=5.0,
                schedule="step",
                step_epochs=1.0,
                step_factor=0.97,
                objective=Objective(label_smoothing=0.1, auxiliary_weight=0.4),
                augmentation=Augmentation(color_jitter=0.4),
            ),
            dataclasses.replace(
                _DARTS_CIFAR,
                name="darts-short",
                source="this project: a short run on a few thousand small images, with milder regularization",
                expected="depends on the data",
                command="mobilenext train DATA --model RUN/architecture.json --recipe darts-short --set channels=16 "
                "--set cells=8 -o runs/found",
                epochs=30,
                batch_size=64,
                lr=0.05,
                lr_batch_size=64,
                schedule_by="step",
                drop_path=0.1,
                augmentation=Augmentation(image_size=32, crop="pad", padding=4, cutout=8),
            ),
        )
    }
)
