"""The networks by name. Importing this package is light; Paddle is imported when a network is built."""

from mobilenext.models.build import DIVISORS, build_network, check_identity_divisor
from mobilenext.models.cards import MODELS, ModelCard, Published, WeightsCard, find_model, list_models

__all__ = [
    "DIVISORS",
    "MODELS",
    "ModelCard",
    "Published",
    "WeightsCard",
    "build_network",
    "check_identity_divisor",
    "find_model",
    "list_models",
]
