"""The file of weights that the training of a found network can begin with."""

from __future__ import annotations

from pathlib import Path

from mobilenext.data import Preprocessing
from mobilenext.models.architecture import Architecture
from mobilenext.models.network import Network
from mobilenext.weights import naming
from mobilenext.weights.record import Weights
from mobilenext.weights.write import safetensors_bytes


def initial_weights(
    network: Network,
    architecture: Architecture,
    *,
    num_classes: int,
    preprocessing: Preprocessing,
    labels: tuple[str, ...] | None,
) -> bytes:
    """Return the content of a weights file of `network`, which is that of `architecture`, for a search's classes."""
    weights = Weights(
        model=architecture.name, num_classes=num_classes, identity_divisor=architecture.identity_divisor,
        architecture=architecture.to_dict(), preprocessing=preprocessing, labels=labels, path=Path(),
        sha256="", source_name="mobilenext search: the first weights of the super-network", source_sha256="", card=None,
        kind="raw", notes=(), tensors={name: tensor.numpy() for name, tensor in network.state_dict().items()},
        entries=naming.entries_of(network), dialect="paddle", dropped=(),
    )  # fmt: skip
    return safetensors_bytes(dict(weights.tensors), weights.metadata())
