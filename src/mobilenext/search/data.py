"""The data of a search: the training images in two halves, of which one changes the weights and the other the alphas.

Each half has half of the images of every class, drawn from the seed. The run's folder keeps both lists, as it does
where a training divides its images: the half of the weights is its training part, that of the alphas its validation.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilenext.classification.data import open_run, reopen_run
from mobilenext.data import LabelledDataset
from mobilenext.data.dataset import class_name_of
from mobilenext.errors import DatasetError, UsageError
from mobilenext.job import DataRequest, Parts
from mobilenext.search.cost_table import read_cost_table
from mobilenext.search.measuring import check_runtime, describe_table, not_measurable
from mobilenext.search.recipes import SearchRecipe

SHARE = 0.5  # of the images of each class, those of the alphas
_NEEDLESS = ("val_list", "val_split", "train_split")


def open_halves(request: DataRequest) -> Parts:
    """Open the data of a new search.

    Raises:
        UsageError: options of a validation that a search does not have, or a cost table of no runtime known here.
        DatasetError: what cannot be read, or a class of less than two images. DataError: a broken cost table.
    """
    needless = [f"{name} is {value}" for name, value in request.options.items() if name in _NEEDLESS and value]
    if needless:
        raise UsageError(
            f"{needless[0]}, but a search divides the training images into two halves; expected --train-list alone"
        )
    parts = open_run(dataclasses.replace(request, options={**request.options, "val_split": SHARE}), halves=True)
    _check_halves(parts, request.root)
    assert isinstance(request.recipe, SearchRecipe)
    if request.recipe.costs:
        table = read_cost_table(request.recipe.costs)
        check_runtime(table)
        reason = not_measurable(table)
        parts = dataclasses.replace(
            parts,
            stored={**parts.stored, "cost_table": table.to_dict()},
            remarks=(*parts.remarks, describe_table(table)),
            warnings=(*parts.warnings, *([f"{reason}: its numbers are kept as they are"] if reason else [])),
        )
    return parts


def reopen_halves(config: Mapping[str, Any], request: DataRequest, folder: Path) -> Parts:
    """Open the data of a search that goes on, from its ``run.json`` and the lists in its folder.

    Raises:
        UsageError, DataError: what does not fit together, or cannot be read.
    """
    return reopen_run(config, request, folder)


def digest_of(config: Mapping[str, Any]) -> str:
    """Return a checksum of the images of both halves, from ``run.json``."""
    data = config["data"]
    return hashlib.sha256(f"{data['train_sha256']} {data['val_sha256']}".encode()).hexdigest()


def _check_halves(parts: Parts, root: Path) -> None:
    halves = [half for half in (parts.train, parts.val) if isinstance(half, LabelledDataset)]
    images = [Counter(record.label for record in half.records) for half in halves]
    few = [label for label in range(parts.stored["num_classes"]) if not all(half[label] for half in images)]
    if few:
        names = ", ".join(class_name_of(halves[0], label) for label in few[:10])
        raise DatasetError(
            f"{root}: too few images for two halves: less than two of {names}{', ...' * (len(few) > 10)}; expected two "
            "or more of each class"
        )
