"""What names a model: a row of the table, or the file of an architecture. The only place that decides it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mobilenext.errors import UsageError, nearest
from mobilenext.models.architecture import Architecture, read_architecture
from mobilenext.models.cards import MODELS, SEARCHED, ModelCard, known_model


def split_tag(model: str) -> tuple[str, str]:
    """Return what names a model, and the tag of ``model.tag``; the path of an architecture has none."""
    if is_architecture_file(model):
        return model, ""
    name, _, tag = model.partition(".")
    return name, tag


def is_architecture_file(model: str) -> bool:
    """Return whether the name of a model is the path of an architecture."""
    return model.lower().endswith(".json")


def card_of(architecture: Architecture) -> ModelCard:
    """Return the card of a searched network."""
    return ModelCard(architecture.name, SEARCHED, MappingProxyType({}), 0, 0, 0, None, architecture=architecture)


def find_model(model: str | os.PathLike[str] | Architecture | ModelCard) -> ModelCard:
    """Return the card of a model: the only place that decides what names one.

    Args:
        model: a name of the table, in which case does not matter, so PaddleClas' ``MobileNeXt_x1_0`` is known too; the
            path of a search's ``architecture.json``; an architecture, or a card, which is returned.

    The name of a variant without a width, such as ``mobilenext_rm_3x3``, is that of x1.0.

    Raises:
        UsageError: no such model; the nearest name is in the message.
        DataError: the file of an architecture that is missing or broken.
    """
    if isinstance(model, ModelCard):
        return model
    if isinstance(model, Architecture):
        return card_of(model)
    name = os.fspath(model)
    if is_architecture_file(name):
        return card_of(read_architecture(name))
    card = known_model(name)
    if card is None:
        raise UsageError(
            f"unknown model {name!r}{nearest(name, MODELS)}\nknown: {', '.join(MODELS)} (`mobilenext list` shows them)"
        )
    return card


def card_as_counted(result: Mapping[str, Any]) -> ModelCard | None:
    """Return the card of an evaluated network, if it was counted for as many classes and pixels; None for another."""
    card, side = MODELS.get(result["model"]), (result.get("preprocessing") or {}).get("image_size")
    if card is None or result.get("identity_divisor", 1) != card.identity_divisor:
        return None
    classes, pixels = f"{result.get('num_classes', 0):,} classes", f"{side} × {side} "
    return card if card.counted_for.startswith(classes) and pixels in card.counted_for else None
