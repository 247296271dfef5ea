"""The networks by name. Importing this package is light; Paddle is imported when a network is built."""

from mobilenext.models.architecture import Architecture, read_architecture, write_architecture
from mobilenext.models.block_plan import DIVISORS
from mobilenext.models.build import architecture_network, build_network, check_identity_divisor
from mobilenext.models.cards import DETECTION, MODELS, ModelCard, list_models
from mobilenext.models.detector_form import FORMS, Form, find_form
from mobilenext.models.lookup import find_model, split_tag
from mobilenext.models.published import Published, PublishedDetection, WeightsCard

__all__ = [
    "DETECTION",
    "DIVISORS",
    "FORMS",
    "MODELS",
    "Architecture",
    "Form",
    "ModelCard",
    "Published",
    "PublishedDetection",
    "WeightsCard",
    "architecture_network",
    "build_network",
    "check_identity_divisor",
    "find_form",
    "find_model",
    "list_models",
    "read_architecture",
    "split_tag",
    "write_architecture",
]
