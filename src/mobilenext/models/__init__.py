"""The networks by name. Importing this package is light; Paddle is imported when a network is built."""

from mobilenext.models.block_plan import DIVISORS
from mobilenext.models.build import build_network, check_identity_divisor
from mobilenext.models.cards import DETECTION, MODELS, ModelCard, WeightsCard, find_model, list_models
from mobilenext.models.detector_form import FORMS, Form, find_form
from mobilenext.models.published import Published, PublishedDetection

__all__ = [
    "DETECTION",
    "DIVISORS",
    "FORMS",
    "MODELS",
    "Form",
    "ModelCard",
    "Published",
    "PublishedDetection",
    "WeightsCard",
    "build_network",
    "check_identity_divisor",
    "find_form",
    "find_model",
    "list_models",
]
