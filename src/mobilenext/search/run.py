"""Search for an architecture: a run of the shared training loop with the task ``search``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mobilenext.errors import UsageError
from mobilenext.models import find_model, split_tag
from mobilenext.search.recipes import FROM_SCRATCH, FROM_WEIGHTS, RECIPES
from mobilenext.search.space import SUPER_NETWORK
from mobilenext.search.task import NAME
from mobilenext.training.options import TrainOptions
from mobilenext.training.run import train

if TYPE_CHECKING:
    from typing import Unpack

PathLike = str | os.PathLike[str]


def search_architecture(
    data: PathLike | None = None,
    *,
    output: PathLike | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
    model: str | None = None,
    weights: PathLike | None = None,
    resume: PathLike | None = None,
    **options: Unpack[TrainOptions],
) -> dict[str, Any]:
    """Search for an architecture, and write everything into a folder.

    The folder is that of a training run, with ``architecture.json`` beside it: the architecture found so far, from the
    first checkpoint on. The training images are divided into two halves by class; the weights of the super-network
    learn from one, its alphas from the other.

        result = search_architecture("cifar10", output="runs/cells", settings=["operators=darts,sandglass_3x3"])
        train("cifar10", model="runs/cells/architecture.json", output="runs/found")

    Args:
        data: a folder with ``train_list.txt``, or with ``train/`` of class folders.
        output: the folder of the run, new.
        recipe: one of `mobilenext recipes`, such as ``darts``; None: that of the space, or with a model or weights
            ``blocks``, else ``short``.
        settings: texts ``key=value`` that replace fields of the recipe, such as ``space=cell`` or ``order=2``.
        model: the model that is searched over, in a space that begins with one. weights: those that it begins with.
        resume: the folder of a search, to go on with it; see :func:`mobilenext.train`.
        options: the other keywords of :func:`mobilenext.train`, which mean the same.

    Returns:
        What is written to ``result.json``; under ``search`` the architectures and random ones beside them.

    Raises:
        UsageError: a name or a value that cannot work. DatasetError: too few images for two halves. Others as
            :func:`mobilenext.train`.
    """
    if resume is not None:
        choices: dict[str, Any] = {"output": output, "recipe": recipe, "settings": settings, "model": model}
        return train(data, weights=weights, resume=resume, **{n: v for n, v in choices.items() if v}, **options)
    if (task := options.get("task")) not in (None, NAME):
        raise UsageError(f"task is {task!r}; a search has the task {NAME!r}")
    options["task"] = NAME
    if options.get("to_static"):
        raise UsageError("to_static: a graph cannot change its candidates from step to step; search without it")
    settings = _with_latency(settings)
    space = _set_value(settings, "space")
    recipe = recipe or {"cell": FROM_SCRATCH, "blocks": FROM_WEIGHTS}.get(space)
    if model is not None:
        _check_model(model)
        recipe = recipe or FROM_WEIGHTS
    elif weights is None:
        model = SUPER_NETWORK
    known = RECIPES.get(recipe or "")
    _refuse_needless(settings, space or (known.space if known else ""))
    return train(data, output=output, recipe=recipe, settings=settings, model=model, weights=weights, **options)


def _check_model(model: str) -> None:
    """Raise UsageError for a model without blocks that can be searched."""
    card = find_model(split_tag(model)[0])
    if card.family != "mobilenext":
        raise UsageError(
            f"{card.name} has no blocks to choose from; expected a MobileNeXt of a width, mobilenext_x0_35 to "
            "mobilenext_x1_4, or for a search of cells no model"
        )


def _set_value(settings: Sequence[str], name: str) -> str:
    """Return what a setting sets a field to; empty where none does."""
    pairs = [setting.partition("=") for setting in settings]
    return next((value.strip() for field, _, value in reversed(pairs) if field.strip() == name), "")


def _refuse_needless(settings: Sequence[str], space: str) -> None:
    """Refuse fields that only the other space has."""
    of_other = {"blocks": ("operators", "channels", "cells"), "cell": ("costs",)}.get(space, ())
    names = {setting.partition("=")[0].strip() for setting in settings}
    if needless := sorted(names & set(of_other)):
        raise UsageError(f"{needless[0]} is set, which the space {space} does not have; leave it out")


def _with_latency(settings: Iterable[str]) -> list[str]:
    """Return the settings; where they name a file of latencies and no cost, the cost is latency."""
    settings = [settings] if isinstance(settings, str) else list(settings)
    names = {setting.partition("=")[0].strip() for setting in settings}
    return [*settings, "cost_measure=latency"] if "costs" in names and "cost_measure" not in names else settings
