"""The network of tensors that do not tell it: a record describes it, stored with the weights or in its own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import DETECTION, Architecture
from mobilenext.weights import naming
from mobilenext.weights.builders import builder_of, network_for
from mobilenext.weights.foreign import ForeignFile, StateDict
from mobilenext.weights.metadata import Metadata
from mobilenext.weights.naming import Array, Entry, Recognized
from mobilenext.weights.record import NetworkRecord

_OF_TRAINING = "auxiliary_head."  # the names of a second head, which only training uses


def described_network(
    file: ForeignFile, metadata: Metadata, use: str | None, identity_divisor: int | None
) -> tuple[StateDict, Recognized] | None:
    """Return the tensors and the network that a task builds from the metadata; None where the tensors tell it.

    Raises:
        WeightsError: the tensors are those of another network, or what the metadata describes cannot be built.
    """
    record = metadata.network(identity_divisor)
    if record is None or record.task == DETECTION:  # a detector's tensors tell what its metadata must agree with
        return None
    try:
        if (builder := builder_of(record)) is None:
            return None
        entries = naming.entries_of(builder(record))
    except UsageError as error:
        raise WeightsError(f"{metadata.path}: {error}") from error
    metadata.check_kind(use)
    tensors = {name: tensor for name, tensor in file.content.items() if isinstance(tensor, np.ndarray)}
    whose = f"the {record.model} that its metadata describes"
    network = _recognized(record, entries, tensors, f"{metadata.path}: these tensors do not fit {whose}")
    return StateDict(tensors, "", metadata.entries.get("kind", "raw"), ()), network


def network_of_architecture(
    architecture: Architecture, state: StateDict, path: Any
) -> tuple[StateDict, Recognized, Architecture]:
    """Return the tensors and the network of a file without metadata that is said to be of this architecture.

    Sizes that the architecture leaves open are the published ones, in the form that the names of the tensors tell. The
    second head is left out.

    Raises:
        WeightsError: the tensors are those of another network.
    """
    form = "imagenet" if any(name.startswith("stem0.") for name in state.tensors) else "cifar"
    if architecture.space == "cell":
        architecture = architecture.replace(form=architecture.form or form).completed(0)
    bias = state.tensors.get("classifier.bias", state.tensors.get("classifier.1.bias"))
    if bias is None or bias.ndim != 1 or not bias.size:
        raise WeightsError(f"{path}: no classifier among its tensors; expected classifier.bias [classes]")
    second = tuple(name for name in state.tensors if name.startswith(_OF_TRAINING))
    tensors = {name: tensor for name, tensor in state.tensors.items() if name not in second}
    notes = [f"{len(second)} tensors of the second head dropped (only training uses it)"] if second else []
    state = dataclasses.replace(state, tensors=tensors, dropped=(*state.dropped, *second), notes=(*state.notes, *notes))
    record = NetworkRecord(
        model=architecture.name,
        num_classes=int(bias.size),
        identity_divisor=architecture.identity_divisor,
        architecture=architecture.to_dict(),
    )
    entries = naming.entries_of(network_for(record))
    network = _recognized(record, entries, tensors, f"{path}: these tensors do not fit the architecture")
    return state, network, architecture


def _recognized(
    record: NetworkRecord, entries: Iterable[Entry], tensors: Mapping[str, Array], problem: str
) -> Recognized:
    """Return what the tensors are; `problem` begins the message where they are not."""
    entries = tuple(entries)
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(naming.COUNTER)}
    problems = {dialect: naming.differences(entries, shapes, dialect) for dialect in ("paddle", "pytorch")}
    dialect = min(problems, key=lambda dialect: len(problems[dialect]))
    if lines := problems[dialect]:
        raise WeightsError(f"{problem}; {len(lines)} differences:\n{naming.table_of(lines)}")
    return Recognized(record.model, record.num_classes, dialect, entries)
