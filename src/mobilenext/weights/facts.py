"""What can be said of a model or of a file of weights, for people: from the table of models, or read from the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilenext.models import build_network, find_model
from mobilenext.models.cards import known_model
from mobilenext.models.lookup import is_architecture_file
from mobilenext.weights.pretrained import source_of
from mobilenext.weights.read import read_weights


def facts_of(subject: str) -> dict[str, Any]:
    """Return facts by their names, as JSON can hold them.

    Args:
        subject: a model's name, ``model.tag``, the file of an architecture, or a file of weights.

    Raises:
        DataError: the file of an architecture that is missing or broken.
        WeightsError: a file that cannot be read, or is not one of the networks here.
    """
    if is_architecture_file(subject):
        return _of_architecture(subject)
    return _of_model(subject) if known_model(subject) else _of_weights(subject)


def _of_model(name: str) -> dict[str, Any]:
    card = find_model(name)
    paper = {
        "paper_top1_percent": card.paper_top1_percent,
        "paper_voc_map_percent": card.paper_voc_map_percent,
        "paper_coco_ap_percent": card.paper_coco_ap_percent,
    }
    return {
        "model": card.name,
        "task": card.task or "classification",
        "parameters": card.parameters,
        "mult_adds": card.mult_adds,
        "counted_for": card.counted_for,
        **{name: value for name, value in paper.items() if value is not None},
        **({"published_error": card.published_error} if card.published_error else {}),
        "weights": [f"{card.name}.{weights.tag}" for weights in card.weights],
    }


def _of_architecture(path: str) -> dict[str, Any]:
    """Return facts of a searched network, which is built and counted; open sizes are those for 224 pixels."""
    from mobilenext.models.counting import count  # imports Paddle

    stored = find_model(path)
    assert stored.architecture is not None
    card = find_model(stored.architecture.completed(stored.image_size))
    size = count(build_network(card), card.image_size)
    assert card.architecture is not None
    return {
        "file": path,
        "model": card.name,
        "task": "classification",
        "parameters": size.parameters,
        "mult_adds": size.mult_adds,
        "counted_for": card.counted_for,
        **card.architecture.to_dict(),
    }


def _of_weights(subject: str) -> dict[str, Any]:
    weights = read_weights(source_of(subject))
    return {
        "file": str(weights.path),
        "sha256": weights.sha256,
        "model": weights.model,
        "task": weights.task or "classification",
        "num_classes": weights.num_classes,
        "labels": list(weights.labels) if weights.labels else None,
        "identity_divisor": weights.identity_divisor,
        "kind": weights.kind,
        "values": sum(int(np.size(tensor)) for tensor in weights.tensors.values()),
        "preprocessing": weights.preprocessing.to_dict(),
        **(dict(weights.architecture) if weights.architecture else {}),
        "card": weights.card,
        "converted_from": weights.source_name,
        "notes": list(weights.notes),
    }
