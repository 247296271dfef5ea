"""Which models a checkpoint's tensors are compared with, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mobilenext.models import DETECTION, MODELS, ModelCard
from mobilenext.models.cards import CELLS, VARIANT

_CLASSIFIER = 1281 * 1000  # parameters of the classifier of most models, which a detector has not
_PLAIN = ("mobilenext", "mobilenetv2", VARIANT)  # classifiers whose names begin with `features` and `classifier`
MOST = 5  # of those; the one that fits is among the first


def candidates(family: str, shapes: Mapping[str, tuple[int, ...]]) -> list[ModelCard]:
    """Return the models to compare with, the likely ones first, since each has to be built.

    A plain classifier may be a variant, whose names differ further on only. The model that fits has as many parameters
    as its card says, so that few of them need a comparison.
    """
    cards = [card for card in MODELS.values() if card.family == family]
    if family in _PLAIN:
        cards += [card for card in MODELS.values() if card.family == VARIANT and family != VARIANT]
        # With the classes that cards are counted for. A row of the classifier: a weight for each channel, and a bias.
        row = 1 + math.prod(shapes["classifier.1.weight"]) // shapes["classifier.1.bias"][0]
        size = 1000 * row + sum(
            math.prod(shape)
            for name, shape in shapes.items()
            if name.startswith("features.") and name.endswith((".weight", ".bias"))
        )
        cards.sort(key=lambda card: abs(card.parameters - size))
        return cards[:MOST]
    if family == CELLS:
        imagenet = "stem0.0.weight" in shapes
        cards = [card for card in cards if card.is_for_cifar != imagenet]
        sizes = [math.prod(shapes[name]) for name in shapes if name.startswith("cells.") and name.endswith("weight")]
        cards.sort(key=lambda card: abs(card.parameters - sum(sizes)))
    elif cards[0].task == DETECTION:
        size = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("backbone.features."))
        cards.sort(key=lambda card: abs(MODELS[card.arguments["backbone"]].parameters - _CLASSIFIER - size))
    return cards
