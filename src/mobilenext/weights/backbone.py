"""The weights of a classifier as the backbone of a detector; the log says what was taken and what was left."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from mobilenext.errors import WeightsError, refuse_unknown
from mobilenext.models import DETECTION, MODELS
from mobilenext.weights import naming
from mobilenext.weights.naming import Array
from mobilenext.weights.pretrained import locate, source_of
from mobilenext.weights.read import WeightsSelection, read_weights
from mobilenext.weights.record import CLASSIFICATION, Weights

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.models.ssdlite import SSDLite

log = logging.getLogger(__name__)
_BACKBONE, _EXTRAS = "backbone.", "backbone.extras."


def load_backbone_into(
    detector: SSDLite, weights: Weights | str | os.PathLike[str], **selection: Unpack[WeightsSelection]
) -> Weights:
    """Load a classifier's weights, of any number of classes, into the backbone of a detector.

    The weights of the same detector may be given, too: then its extra maps are loaded as well, and its heads are left.
    The log says what was taken and what was left.

    Args:
        detector: its own tensors stay untouched when anything does not fit.
        weights: a file, a tag of the backbone's card, ``model.tag``, or what :func:`read_weights` returned.
        **selection: ``use``, ``section`` and ``identity_divisor``, as :func:`read_weights` takes them.

    Returns:
        The weights, with what is known about them.

    Raises:
        WeightsError: they are of another model, or have another identity divisor.
        UsageError: no such weights.
    """
    refuse_unknown(selection, WeightsSelection.__annotations__, "load_backbone_into")
    if not isinstance(weights, Weights):
        names_model = isinstance(weights, str) and weights.partition(".")[0].lower() in MODELS
        path = source_of(str(weights)) if names_model else locate(detector.backbone_model, weights)
        weights = read_weights(path, **selection)
    tensors = _of_backbone(detector, weights)
    expected = [
        entry
        for entry in naming.entries_of(detector)
        if entry.paddle_name.startswith(_BACKBONE)
        and (weights.task == DETECTION or not entry.paddle_name.startswith(_EXTRAS))
    ]
    problems = naming.differences(expected, {name: tensor.shape for name, tensor in tensors.items()}, "paddle")
    if problems:
        raise WeightsError(
            f"{weights.path} ({weights.model}) does not fit the backbone {detector.backbone_model}, which is "
            f"unchanged; {len(problems)} differences:\n{naming.table_of(problems)}"
        )
    # Paddle warns of every tensor that is left out: those that stay are handed over as they are.
    detector.set_state_dict({**detector.state_dict(), **tensors})
    log.info(
        "%s (%s): %d tensors taken for the backbone, %d tensors of the %s left",
        weights.path,
        weights.model,
        len(tensors),
        len(weights.tensors) - len(tensors),
        "heads" if weights.task == DETECTION else "classifier",
    )
    return weights


def _of_backbone(detector: SSDLite, weights: Weights) -> dict[str, Array]:
    """Return the tensors of the backbone, by the detector's names.

    Raises:
        WeightsError: the weights are of another model, or have another identity divisor.
    """
    expected = detector.backbone_model
    card = MODELS.get(weights.model)
    of_detector = weights.task == DETECTION and card is not None and card.arguments["backbone"] == expected
    if not of_detector and (weights.task not in (None, CLASSIFICATION) or weights.model != expected):
        raise WeightsError(
            f"{weights.path} holds {weights.model}, which is no backbone of this detector; expected {expected}, of any "
            "number of classes"
        )
    if weights.identity_divisor != detector.identity_divisor:
        raise WeightsError(
            f"{weights.path} was trained with identity divisor {weights.identity_divisor}, this detector has "
            f"{detector.identity_divisor}; expected the same (--identity-divisor)"
        )
    if of_detector:
        return {name: tensor for name, tensor in weights.tensors.items() if name.startswith(_BACKBONE)}
    return {
        f"{_BACKBONE}{name}": tensor for name, tensor in weights.tensors.items() if not name.startswith("classifier.")
    }
