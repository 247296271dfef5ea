"""How images are prepared for a model where neither its weights nor anybody says it."""

from __future__ import annotations

from mobilenext.data.preprocessing import Preprocessing, cifar_preprocessing
from mobilenext.models.cards import MODELS
from mobilenext.models.detector_form import Form, detection_preprocessing


def standard_preprocessing(model: str, form: Form | None = None) -> Preprocessing:
    """Return the preprocessing of the model's authors; for a name of no card, that of the released MobileNeXt.

    Args:
        model: a name, of a card or of a task's own network.
        form: of a detector.
    """
    if form is not None:
        return detection_preprocessing(form.image_size)
    card = MODELS.get(model)
    return cifar_preprocessing() if card is not None and card.is_for_cifar else Preprocessing()
