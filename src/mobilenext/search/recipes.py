"""The recipes of a search: those of a classifier's training, and what a search has beside it.

    darts    the arguments of the paper's search on CIFAR-10
    short    a search of minutes to hours on a few thousand small images
    blocks   a search over the blocks of a MobileNeXt with weights

``mobilenext recipes`` lists them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mobilenext.classification.augmentation import Augmentation
from mobilenext.classification.recipes import ClassificationRecipe
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, nearest
from mobilenext.models.architecture_fields import MOST_CELLS, MOST_CHANNELS, OPERATORS, SPACES
from mobilenext.models.genotype import DARTS, NONE

COSTS = ("parameters", "mult_adds", "latency")  # what a search may be told to keep low
FROM_SCRATCH, FROM_WEIGHTS = "short", "blocks"  # where no recipe is named


@dataclass(frozen=True, kw_only=True)
class SearchRecipe(ClassificationRecipe):
    """How an architecture is searched: by one optimizer for the weights, as in a training, and one for the alphas.

    Raises:
        UsageError: a value outside its range, or a name that does not exist; the nearest is given.
    """

    # The space.
    space: str = "cell"  # one of `mobilenext.models.architecture.SPACES`
    operators: str = "darts"  # of the space cell: names with commas; darts stands for the eight of DARTS
    channels: int = 16  # of the super-network's first cells
    cells: int = 8  # of the super-network

    # The alphas, which Adam changes (Kingma and Ba 2015), before each step of the weights.
    order: int = 1  # of their gradient, 1 | 2 (see `mobilenext.search.architect`)
    alpha_lr: float = 3e-4
    alpha_beta1: float = 0.5
    alpha_beta2: float = 0.999
    alpha_decay: float = 1e-3  # added to their gradient, times the alphas
    alpha_warmup: float = 0.0  # share of the epochs, the first ones, in which the alphas stay as they are
    beta: float = 0.0  # weight of the mean of logsumexp(row of alphas): this times the epoch, from 0; 0: none
    stop_at_skips: int = 0  # skip connections in the normal cell at which the search ends; 0: it never does

    # The cost.
    cost_measure: str = "parameters"  # parameters | mult_adds, both in millions, | latency, in ms
    cost_weight: float = 0.0  # of max(0, expected cost / budget - 1), which is added to the loss of the alphas
    budget: tuple[float, ...] = ()  # in the unit of the cost; the first one for the term above
    costs: str = ""  # file of measured latencies, for cost_measure latency

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("space", SPACES), ("cost_measure", COSTS)):
            value = getattr(self, name)
            self._require(name, value in choices, f"{' or '.join(choices)}{nearest(str(value), choices)}")
        self._require("order", self.order in (1, 2), "1 or 2")
        for name, most in (("channels", MOST_CHANNELS), ("cells", MOST_CELLS)):
            self._require(name, 1 <= getattr(self, name) <= most, f"1 to {most}")
        for name in ("alpha_decay", "beta", "stop_at_skips", "cost_weight"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("alpha_beta1", "alpha_beta2", "alpha_warmup"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        self._require("alpha_lr", self.alpha_lr > 0, "a number above 0")
        self._require("budget", all(0 < budget < math.inf for budget in self.budget), "numbers above 0 with commas")
        if self.cost_weight and not self.budget:
            raise UsageError(f"cost_weight is {self.cost_weight:g} without a budget; expected one, such as budget=3")
        if self.precision == "fp16":
            raise UsageError("precision is fp16, in which gradients of alphas vanish; expected fp32 or bf16")
        if self.order == 2 and (self.optimizer != "sgd" or self.nesterov):
            raise UsageError(
                "order is 2, whose step ahead is that of SGD with momentum; expected optimizer sgd and nesterov false"
            )
        for name in ("freeze", "freeze_bn"):
            self._require(name, getattr(self, name) == "none", "none: all weights of a super-network learn")
        self._check_space()
        needless = {"drop_path": self.drop_path, "auxiliary_weight": self.objective.auxiliary_weight}
        for name, value in needless.items():
            if value:
                raise UsageError(f"{name} is {value:g}, which a super-network does not have; expected 0")
        operators_of(self.operators)

    def _check_space(self) -> None:
        """Refuse values that would do nothing in the space."""
        if self.space == "cell":
            if self.budget and not self.cost_weight:
                raise UsageError(
                    "a budget of cells is a term of the loss, and cost_weight, which it is multiplied with, is 0; set "
                    "it, such as --set cost_weight=1, or leave the budget out"
                )
            if len(self.budget) > 1:
                raise UsageError(
                    f"budget has {len(self.budget)} numbers; expected one in the space cell, whose searches find one"
                )
        elif self.stop_at_skips:
            raise UsageError("stop_at_skips counts skip connections of cells; expected 0 in the space blocks")
        elif self.order == 2:
            raise UsageError("order is 2; expected 1 in the space blocks, where each pass drops other features")


def operators_of(text: str) -> tuple[str, ...]:
    """Return the names of operators in a text with commas, in order; ``darts`` stands for the eight of DARTS.

    Raises:
        UsageError: a name that does not exist, or one that comes twice.
    """
    names: list[str] = []
    known = (NONE, *OPERATORS)
    for name in filter(None, map(str.strip, text.split(","))):
        if name != "darts" and name not in known:
            raise UsageError(
                f"operators names {name!r}, which does not exist{nearest(name, ('darts', *known))}; known: darts "
                f"(eight of them), {', '.join(known)}"
            )
        names += DARTS if name == "darts" else [name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not set(names) - {NONE}:
        problem = f"has {twice[0]} twice" if twice else "has no operator"
        raise UsageError(f"operators is {text!r}, which {problem}; expected names with commas, each once")
    return tuple(names)


_CIFAR_MEAN, _CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)

RECIPES: Mapping[str, SearchRecipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            SearchRecipe(
                name="darts",
                source="the arguments of quark0/darts, cnn/train_search.py (Liu et al. 2019), but an epoch leaves out "
                "its last, smaller batch",
                expected="cells that reach 97.0 % (order 1) or 97.2 % (order 2) on CIFAR-10 when trained (published)",
                cost="ten days of one core for CIFAR-10, of one order",
                command="mobilenext search CIFAR10 --recipe darts --order 2 -o runs/cells",
                epochs=50,
                batch_size=64,
                lr=0.025,
                lr_batch_size=64,
                min_lr=0.001,
                weight_decay=3e-4,
                decay_1d=True,
                clip_norm=5.0,
                preprocessing=Preprocessing(image_size=32, crop_pct=1.0, mean=_CIFAR_MEAN, std=_CIFAR_STD),
                augmentation=Augmentation(image_size=32, crop="pad", padding=4),
            ),
            SearchRecipe(
                name="short",
                source="this project: a small super-network at 16 pixels; the rate of the alphas is ten times that of "
                "the paper, since there are fewer steps",
                expected="depends on the data",
                cost="an hour of one core for 4,000 images",
                command="mobilenext search DATA --operators darts,sandglass_3x3 --recipe short -o runs/cells",
                epochs=15,
                batch_size=64,
                lr=0.025,
                lr_batch_size=64,
                schedule_by="step",
                min_lr=0.001,
                weight_decay=3e-4,
                decay_1d=True,
                clip_norm=5.0,
                channels=8,
                cells=5,
                alpha_lr=3e-3,
                alpha_warmup=0.3,
                beta=0.5,
                preprocessing=Preprocessing(image_size=16, crop_pct=1.0),
                augmentation=Augmentation(image_size=16, crop="pad", padding=2),
            ),
            SearchRecipe(
                name="blocks",
                space="blocks",
                source="this project: single paths of a super-network that begins with weights; a third of the epochs "
                "adapts it to the data before the alphas change",
                expected="depends on the data and the budget",
                cost="about that of a training of as many epochs on the same images",
                command="mobilenext search DATA --weights mobilenext_x1_0.in1k --costs costs.json --budget 3,4 -o RUN",
                epochs=30,
                batch_size=32,
                lr=0.02,
                lr_batch_size=32,
                schedule_by="step",
                min_lr=0.0005,
                weight_decay=4e-5,
                clip_norm=5.0,
                alpha_lr=0.01,
                alpha_decay=0.0,
                alpha_warmup=0.3,
                preprocessing=Preprocessing(),
                augmentation=Augmentation(scale=(0.35, 1.0)),
            ),
        )
    }
)
