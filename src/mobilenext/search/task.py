"""A search as a task: the training of a classifier, but for the network, the halves of the data and the steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.classification.task import TASK as CLASSIFICATION
from mobilenext.classification.training import ClassificationJob
from mobilenext.data import Preprocessing
from mobilenext.job import Parts, Setup, Stepper
from mobilenext.json_files import optional, record
from mobilenext.models import ModelCard
from mobilenext.recipe import Recipe
from mobilenext.search.data import digest_of, open_halves, reopen_halves
from mobilenext.search.job import SearchJob
from mobilenext.search.page import sections
from mobilenext.search.recipes import FROM_SCRATCH, FROM_WEIGHTS, RECIPES, SearchRecipe
from mobilenext.search.space import SUPER_NETWORK, Space, SpaceRequest, make_space

if TYPE_CHECKING:
    from paddle import nn

NAME = "search"
# Of a super-network that begins without a model: `Training.cards` knows it, and no list of models.
CARD = ModelCard(
    name=SUPER_NETWORK, family=SUPER_NETWORK, arguments={}, parameters=0, mult_adds=0, mult_adds_with_bn=0,
    paper_top1_percent=None, task=NAME,
)  # fmt: skip


def space_of(config: Mapping[str, Any], recipe: SearchRecipe) -> Space:
    """Return the space of a run from its ``run.json``."""
    return make_space(
        SpaceRequest(
            recipe=recipe,
            num_classes=config["num_classes"],
            image_size=Preprocessing.from_dict(config["preprocessing"]).image_size,
            seed=config["seed"],
            data_digest=digest_of(config),
            model=config["model"],
            identity_divisor=config["identity_divisor"],
            first_weights=config["weights"] or {},
            cost_table=config.get("cost_table"),
        )
    )


def make_job(config: Mapping[str, Any], recipe: Recipe, parts: Parts) -> SearchJob:
    """Return the job of a search."""
    assert isinstance(recipe, SearchRecipe)
    classification = CLASSIFICATION.training.job(config, recipe, parts)
    assert isinstance(classification, ClassificationJob)
    return SearchJob(space_of(config, recipe), classification)


def build_super_network(config: Mapping[str, Any], weights: Path | None) -> nn.Layer:
    """Return the super-network of a run, with its first weights or freshly initialized."""
    return space_of(config, SearchRecipe.from_dict(config["recipe"])).network(weights)


def make_stepper(setup: Setup, network: nn.Layer, parts: Parts) -> Stepper:
    """Return what makes the steps."""
    from mobilenext.search.stepper import SearchStep

    return SearchStep(setup, network, parts)


TRAINING = dataclasses.replace(
    CLASSIFICATION.training,
    recipe=SearchRecipe,
    recipes=RECIPES,
    from_scratch=FROM_SCRATCH,
    from_weights=FROM_WEIGHTS,
    open_parts=open_halves,
    reopen_parts=reopen_halves,
    build=build_super_network,
    job=make_job,
    stored={**CLASSIFICATION.training.stored, "cost_table": optional(record({}))},
    describe=lambda config: f"{config['num_classes']} classes, space {config['recipe']['space']}",
    rehearses=True,
    stepper=make_stepper,
    cards={SUPER_NETWORK: CARD},
    verb="search",
)
PRESENTATION = dataclasses.replace(CLASSIFICATION.presentation, run_nouns=("search", "searches"), trained=sections)
TASK = dataclasses.replace(
    CLASSIFICATION, name=NAME, load_training=lambda: TRAINING, load_presentation=lambda: PRESENTATION
)
