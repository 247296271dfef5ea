"""What a new run begins with: the model's card, and weights of the whole network, of its backbone, or none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import MODELS, Architecture, ModelCard, check_identity_divisor, find_model, split_tag
from mobilenext.models.architecture import SIZES
from mobilenext.models.cards import CELLS
from mobilenext.recipe import Recipe
from mobilenext.recipe_values import parsed
from mobilenext.task import Task
from mobilenext.tasks import DEFAULT, find_task
from mobilenext.training.options import PlanOptions

if TYPE_CHECKING:
    from mobilenext.weights.record import Weights

PathLike = str | os.PathLike[str]
BACKBONE = "backbone"  # in run.json, the part of the network that the first weights are of
_OF_THE_WEIGHTS = {
    "image_size": "image_size", "crop_pct": "crop_pct", "eval_interpolation": "interpolation", "fit": "fit",
}  # fmt: skip


@dataclass(frozen=True)
class Beginning:
    """A model, and the weights that its training begins with."""

    card: ModelCard
    identity_divisor: int
    weights: Weights | None  # None: the network is freshly initialized
    part: str | None = None  # BACKBONE where the weights are of that only; None: of the whole network

    def stored(self) -> dict[str, Any] | None:
        """Return what ``run.json`` says of the weights."""
        if self.weights is None:
            return None
        values = {"file": self.weights.path.name, "sha256": self.weights.sha256, "kind": self.weights.kind}
        optional = {"section": self.weights.section, "part": self.part}
        return values | {name: value for name, value in optional.items() if value}

    def fit(self, recipe: Recipe, settings: Collection[str]) -> tuple[Recipe, Preprocessing]:
        """Return the recipe with the images of the weights, but for the fields that were set, and the preprocessing.

        The mean and std belong to the weights, also to those of a backbone, unless these have ImageNet's, of which
        detectors have rounded ones.
        """
        if self.weights is None:
            return recipe, recipe.preprocessing
        stored, usual = self.weights.preprocessing, Preprocessing()
        if self.part is None:
            names = set(_OF_THE_WEIGHTS) - set(settings)
            recipe = recipe.replace(**{name: getattr(stored, _OF_THE_WEIGHTS[name]) for name in names})
        elif (stored.mean, stored.std) == (usual.mean, usual.std):
            return recipe, recipe.preprocessing
        return recipe, dataclasses.replace(recipe.preprocessing, mean=stored.mean, std=stored.std)

    def of_size(self, image_size: int, sizes: Mapping[str, Any]) -> Beginning:
        """Return the beginning with the card of the network that is trained on images of `image_size` pixels.

        Args:
            image_size: decides the sizes that an architecture of cells leaves open.
            sizes: that take the place of those of the architecture: form, channels, cells.

        Raises:
            UsageError: sizes of a network with weights, or images that are too small for the network.
        """
        card = self.card
        if card.architecture is not None:
            if sizes and self.weights is not None:
                raise UsageError(
                    f"{', '.join(sizes)} set with weights, which are of {card.name}; expected no sizes, or no weights"
                )
            card = find_model(card.architecture.replace(**sizes).completed(image_size))
        cells = card.architecture is not None and card.architecture.space == "cell"
        if image_size < card.stride or (cells and image_size % card.stride):
            multiple = f", a multiple of {card.stride}" if cells else ""
            whose = f"the stride of {card.name}" if card.architecture else "the networks' stride"
            raise UsageError(f"image_size is {image_size}; expected {card.stride} or more{multiple}, {whose}")
        return dataclasses.replace(self, card=card)


def split_sizes(
    settings: Iterable[str], card: ModelCard, fields: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the settings of the recipe, and those of the network: form, channels and cells of an architecture.

    What is among the `fields` of the recipe is a setting of the recipe.

    Raises:
        UsageError: a size that is no number, or channels and cells of another network.
    """
    of_recipe, sizes = [], {}
    cells = card.architecture is not None and card.architecture.space == "cell"
    for setting in settings:
        name, _, text = setting.partition("=")
        name = name.strip()
        if name in fields or name not in SIZES or (name == "form" and not cells and card.family != CELLS):
            of_recipe.append(setting)
        elif not cells:
            raise UsageError(
                f"{name} is set, but {card.name} is a published network, whose sizes are fixed; expected no {name}"
                if card.family == CELLS
                else f"{name} is set, which only a network of cells has; {card.name} is none, expected no {name}"
            )
        else:
            sizes[name] = parsed(name, text.strip(), "str" if name == "form" else "int")
    return tuple(of_recipe), sizes


def find_beginning(model: str | None, weights: PathLike | None, options: PlanOptions) -> Beginning:
    """Return the card of the model and the first weights, which are read.

    Raises:
        UsageError: options that exclude each other, or nothing that names a model.
        WeightsError: weights of another model or task.
    """
    backbone = options.get("backbone")
    if weights is not None and backbone is not None:
        raise UsageError("weights and backbone at once, but the weights have a backbone; choose one of them")
    if model is None and weights is None:
        backbone_alone = " for the backbone" if backbone is not None else ""
        raise UsageError(f"no model{backbone_alone}; expected --model NAME, or --weights FILE to begin with")
    beginning = _of_backbone(model, backbone, options) if backbone is not None else _of_model(model, weights, options)
    check_identity_divisor(beginning.card, beginning.identity_divisor)
    return beginning


def check_task(beginning: Beginning, task: Task) -> None:
    """Check that the task is one of these weights, or trains networks with a backbone of theirs.

    Raises:
        UsageError: a task whose networks have no backbone. WeightsError: weights of another task than the model's.
    """
    first, card = beginning.weights, beginning.card
    if beginning.part == BACKBONE and not task.training.has_backbone:
        raise UsageError(f"a network for {task.name} has no backbone of its own; begin with --weights FILE")
    if first is not None and beginning.part is None and card.task and (first.task or DEFAULT) != task.name:
        advice = ": its backbone can begin with them by --backbone FILE" if task.training.has_backbone else ""
        raise WeightsError(
            f"{first.path} holds {first.model}, a network for {first.task or DEFAULT}; {card.name} is one for "
            f"{task.name}{advice}"
        )


def _of_model(model: str | None, weights: PathLike | None, options: PlanOptions) -> Beginning:
    """Return the beginning with weights of the whole network, or without any."""
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights

    name = split_tag(model)[0] if model else None
    divisor = options.get("identity_divisor")
    if weights is None and (model is None or not split_tag(model)[1]):
        assert name is not None
        task = options.get("task")
        own = find_task(task).training.cards.get(name) if task else None
        if needless := [option for option in ("use", "section") if options.get(option) is not None]:
            raise UsageError(
                f"{' and '.join(needless)} given without weights, but these options select weights within a file; "
                "expected --weights FILE"
            )
        new = own or find_model(name)
        return Beginning(new, new.identity_divisor if divisor is None else divisor, None)
    card = find_model(name) if name else None
    own_task = card.task if card else None  # such weights may be of another model, which `check_task` says
    of_other = own_task and isinstance(weights, str) and weights.partition(".")[0].lower() in MODELS
    first = read_weights(
        locate(None if of_other else model, weights), model=None if own_task else name, identity_divisor=divisor,
        use=options.get("use"), section=options.get("section"),
    )  # fmt: skip
    if card and own_task and first.task == own_task and first.model != card.name:
        raise WeightsError(f"{first.path} holds {first.model}; asked for {card.name}")
    if first.task in (None, DEFAULT) and first.architecture is not None:
        card = find_model(Architecture.from_dict(first.architecture))
    return Beginning(card or find_model(first.model), first.identity_divisor, first)


def _of_backbone(model: str | None, backbone: PathLike, options: PlanOptions) -> Beginning:
    """Return the beginning with weights that are of the network's backbone."""
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights

    assert model is not None
    first = read_weights(
        locate(None, backbone), identity_divisor=options.get("identity_divisor"), use=options.get("use"),
        section=options.get("section"),
    )  # fmt: skip
    return Beginning(find_model(model), first.identity_divisor, first, BACKBONE)
