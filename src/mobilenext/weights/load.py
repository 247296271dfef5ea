"""Put weights into a network: every tensor on both sides exactly once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mobilenext.errors import WeightsError
from mobilenext.weights import naming
from mobilenext.weights.builders import network_for
from mobilenext.weights.naming import Array
from mobilenext.weights.own_names import has_auxiliary
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights

if TYPE_CHECKING:
    from paddle import nn

    from mobilenext.models.network import Network

log = logging.getLogger(__name__)


def load_weights(network: nn.Layer, weights: Weights | str | os.PathLike[str], *, use: str | None = None) -> Weights:
    """Load weights into a network that :func:`mobilenext.create_model` made, strictly.

    Args:
        network: its own tensors stay untouched when anything does not fit. Where it has no head (``features_only``,
            ``num_classes=0``), see :func:`load_backbone`.
        weights: a file, or what :func:`read_weights` returned.
        use: see :func:`read_weights`.

    Returns:
        The weights, with what is known about them.

    Raises:
        WeightsError: a name or a shape differs; both sides are listed.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights, use=use)
    if getattr(network, "features_only", False) or getattr(network, "pooled_only", False):
        return load_backbone(network, weights)
    _load(network, weights, naming.entries_of(network, training=has_auxiliary(weights.tensors)), weights.tensors)
    return weights


def load_backbone(network: Network, weights: Weights | str | os.PathLike[str], *, use: str | None = None) -> Weights:
    """Load everything but the head (``network.head_layers``), strictly; the network may have a head of its own.

    The weights may be of any number of classes. A head that the network has keeps its values.

    Args, returns and raises: as :func:`load_weights`.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights, use=use)
    head = tuple(f"{name}." for name in network.head_layers)
    entries = tuple(entry for entry in naming.entries_of(network) if not entry.paddle_name.startswith(head))
    tensors = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(head)}
    _load(network, weights, entries, tensors)
    return weights


def _load(network: nn.Layer, weights: Weights, entries: tuple[naming.Entry, ...], tensors: Mapping[str, Array]) -> None:
    """Load `tensors`, which must be exactly the `entries` of the network, but for an auxiliary head that it lacks."""
    if has_auxiliary(tensors) and not has_auxiliary(entry.paddle_name for entry in entries):
        tensors = {name: tensor for name, tensor in tensors.items() if not has_auxiliary([name])}
        log.info("%s: the auxiliary head, which serves training only, is left out of this network", weights.path)
    problems = naming.differences(entries, {name: tensor.shape for name, tensor in tensors.items()}, "paddle")
    if problems:
        raise WeightsError(
            f"{weights.path} ({weights.model}, {weights.num_classes} classes) does not fit this network, which is "
            f"unchanged; {len(problems)} differences:\n{naming.table_of(problems)}"
        )
    divisor = getattr(network, "identity_divisor", weights.identity_divisor)
    if divisor != weights.identity_divisor:
        log.warning(
            "%s was trained with identity divisor %d; this network has %d",
            weights.path,
            weights.identity_divisor,
            divisor,
        )
    # Paddle warns of every tensor that is left out: those that stay are handed over as they are.
    network.set_state_dict({**network.state_dict(), **tensors})


def network_of(weights: Weights) -> Network:
    """Build the network of these weights, in evaluation mode, with the weights in it."""
    network = network_for(weights)
    load_weights(network, weights)
    network.eval()
    return network
