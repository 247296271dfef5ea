"""What the training of small networks of cells has alike: data, size, recipe, and what is kept of a run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.runs import Run, finished_run, parameters_of, training_row
from mobilenext.errors import DataError
from mobilenext.models.architecture import Architecture, write_architecture
from mobilenext.models.genotype import Genotype
from mobilenext.search.space import SUPER_NETWORK, Space, SpaceRequest, make_space

CLASSES, IMAGES = 10, 5000  # of the data; images to train on, as many of each class
CHANNELS, CELLS, EPOCHS, IMAGE_SIZE = 16, 8, 15, 16
RECIPE = "darts-short"
BOX = {"interpolation": "box", "eval_interpolation": "box"}  # the mean of an area, in training and validation
SMALLER = {"padding": 2, "cutout": 4}  # half of what the recipe has for 32 pixels
NO_DATA = 64 * "0"  # the digest, where cells are only counted
CONFIGURATION = {
    "recipe": RECIPE, "channels": CHANNELS, "cells": CELLS, "epochs": EPOCHS, "image_size": IMAGE_SIZE,
    "train_images": IMAGES, **BOX, **SMALLER,
}  # fmt: skip


def write_list(data: Path, target: Path, images: int) -> None:
    """Write a list of the first images of each class in ``train_list.txt``, `images` in all.

    Raises:
        DataError: there are fewer of a class.
    """
    lines, counts = [], Counter[str]()
    for line in (data / "train_list.txt").read_text().splitlines():
        label = line.rsplit(maxsplit=1)[-1]
        if counts[label] < images // CLASSES:
            counts[label] += 1
            lines.append(line)
    if len(lines) != images:
        raise DataError(f"{data / 'train_list.txt'} has {len(lines)} of {images} images; expected {CLASSES} classes")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines))


def small(genotype: Genotype) -> Architecture:
    """Return the network that is trained."""
    return Architecture(space="cell", genotype=genotype, form="cifar", channels=CHANNELS, cells=CELLS)


def training_arguments(data: Path, genotype: Genotype, seed: int, folder: Path) -> Sequence[str]:
    """Return the arguments that train a network of these cells; its file and the list of images are written."""
    images, architecture = folder.parent / f"train_{IMAGES}.txt", folder.with_suffix(".json")
    write_list(data, images, IMAGES)
    write_architecture(architecture, small(genotype))
    settings = {"epochs": EPOCHS, "image_size": IMAGE_SIZE, **BOX, **SMALLER}
    return [
        *("train", str(data), "--train-list", str(images.resolve()), "--model", str(architecture)),
        *("--recipe", RECIPE, "--seed", str(seed)),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ]


def expected(genotype: Genotype, seed: int) -> Mapping[str, Any]:
    """Return the fields of run.json that say what was trained."""
    return {"model": small(genotype).name, "seed": seed, "recipe.name": RECIPE, "recipe.epochs": EPOCHS}


def cell_row(run: Run, folder: Path, genotype: Genotype) -> dict[str, Any] | None:
    """Return what is kept of a finished run; None where it is not finished."""
    training = finished_run(run, folder)
    if training is None:
        return None
    final = space("darts").summary(dataclasses.replace(small(genotype), channels=None, cells=None))
    sizes = {"final_parameters": final.parameters, "final_mult_adds": final.mult_adds}
    return {**training_row(training, parameters_of(small(genotype), CLASSES, IMAGE_SIZE)), **sizes}


@cache
def space(operators: str) -> Space:
    """Return the space of cells, whose sizes are those of the final network of 36 channels and 20 cells."""
    from mobilenext.search.recipes import RECIPES

    recipe = dataclasses.replace(RECIPES["short"], operators=operators)
    request = SpaceRequest(
        recipe=recipe, num_classes=CLASSES, image_size=IMAGE_SIZE, seed=0, data_digest=NO_DATA, model=SUPER_NETWORK
    )
    return make_space(request)
