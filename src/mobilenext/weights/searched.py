"""What the record of the weights of a searched classifier says: its architecture, and the network of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.models import Architecture, architecture_network, find_model
from mobilenext.weights.naming import entries_of
from mobilenext.weights.record import NetworkRecord, Weights

if TYPE_CHECKING:
    from mobilenext.models.network import Network

MOST_CLASSES = 100_000  # of a record, which a stranger may have written


def architecture_in(record: NetworkRecord) -> Architecture:
    """Return the architecture that is stored with the weights of a classifier, whose sizes are decided.

    Raises:
        UsageError: there is none, it is broken, or the record says other things than the architecture.
    """
    if record.architecture is None:
        raise UsageError(f"{record.model} has no architecture")
    try:
        architecture = Architecture.from_dict(record.architecture)
    except UsageError as error:
        raise UsageError(f"{record.model} has an architecture that cannot be used: {error}") from error
    if (record.model, record.identity_divisor) != (architecture.name, architecture.identity_divisor):
        raise UsageError(
            f"the record is of {record.model} with the identity divisor {record.identity_divisor}; its architecture is "
            f"that of {architecture.name} with {architecture.identity_divisor}"
        )
    return architecture


def fresh_weights(architecture: Architecture, path: Path, *, num_classes: int = 1000) -> Weights:
    """Return the freshly initialized weights of an architecture, whose sizes are decided, for the file `path`."""
    card = find_model(architecture)
    network = architecture_network(architecture, num_classes=num_classes)
    return Weights(
        model=card.name,
        num_classes=num_classes,
        identity_divisor=card.identity_divisor,
        architecture=architecture.to_dict(),
        preprocessing=Preprocessing(image_size=card.image_size),
        labels=None,
        path=path,
        sha256="",
        source_name="freshly initialized",
        source_sha256="",
        card=None,
        kind="raw",
        notes=(),
        tensors={name: tensor.numpy() for name, tensor in network.state_dict().items()},
        entries=entries_of(network),
        dialect="paddle",
        dropped=(),
    )


def build_searched(record: NetworkRecord) -> Network:
    """Build the classifier of a record that has an architecture, freshly initialized and in training mode.

    Raises:
        UsageError: what the record says cannot be built.
    """
    if record.num_classes > MOST_CLASSES:
        raise UsageError(f"a classifier of {record.num_classes} classes; expected at most {MOST_CLASSES:,}")
    return architecture_network(architecture_in(record), num_classes=record.num_classes)
