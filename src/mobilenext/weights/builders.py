"""Build the network of a record of weights: by its model's card, or, of a network that is in no card, by its task.

Weights, runtimes and exports lie below the tasks, and a process that only opens a network knows no task. So the
function of a task is looked up here by the task's name, which is stored with the weights.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from mobilenext.errors import UsageError
from mobilenext.models import DETECTION, build_network
from mobilenext.weights.record import CLASSIFICATION, NetworkRecord

if TYPE_CHECKING:
    from mobilenext.models.network import Network

# Builds a freshly initialized network in training mode; UsageError: what the record says cannot be built.
Builder: TypeAlias = "Callable[[NetworkRecord], Network]"

SEARCH = "search"  # the task of super-networks, which nothing but a search can use


def refuse_super_network(task: str | None, path: str | os.PathLike[str]) -> None:
    """Raise UsageError where weights of `task` are those of a super-network."""
    if task == SEARCH:
        raise UsageError(
            f"{path} holds the super-network of a search, which mixes all candidates and answers for none; train the "
            "architecture that was found: mobilenext train DATA --model RUN/architecture.json -o FOLDER"
        )


# By the task: the function, or "module:function" of a task of this package, imported when it is needed.
_BUILDERS: dict[str, Builder | str] = {
    CLASSIFICATION: "mobilenext.weights.searched:build_searched",
    DETECTION: "mobilenext.weights.detectors:build_detector",
}


def register_builder(task: str, builder: Builder | str) -> None:
    """Let `builder` build the networks of weights of a task; also of those without an architecture."""
    _BUILDERS[task] = builder


def builder_of(record: NetworkRecord) -> Builder | None:
    """Return the function of the record's task, or None where the network is that of the model's card.

    Raises:
        UsageError: the record has an architecture, and nothing that builds it.
    """
    if record.task in (None, CLASSIFICATION) and record.architecture is None:
        return None
    task = record.task or CLASSIFICATION
    builder = _BUILDERS.get(task)
    if builder is None and record.architecture is not None:
        raise UsageError(f"{record.model} has an architecture that nothing of the task {task} builds here")
    if isinstance(builder, str):
        module, _, name = builder.partition(":")
        builder = _BUILDERS[task] = getattr(importlib.import_module(module), name)
    return builder


def network_for(record: NetworkRecord) -> Network:
    """Build the network of a record, freshly initialized and in training mode.

    Raises:
        UsageError: it cannot be built.
    """
    if builder := builder_of(record):
        return builder(record)
    return build_network(record.model, num_classes=record.num_classes, identity_divisor=record.identity_divisor)
