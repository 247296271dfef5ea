"""Read weights from any file that ``foreign`` reads, our own among them: recognize the network, convert in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from mobilenext.data.labels import labels_of
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import DETECTION, MODELS, Architecture, Form, WeightsCard, check_identity_divisor, find_model
from mobilenext.models.build import PARTIAL
from mobilenext.models.cards import ModelCard, find_weights_card
from mobilenext.models.standard import standard_preprocessing
from mobilenext.weights import detectors, naming, own_names
from mobilenext.weights.builders import refuse_super_network
from mobilenext.weights.described import described_network, network_of_architecture
from mobilenext.weights.foreign import ForeignFile, StateDict, read_foreign, select_state_dict
from mobilenext.weights.metadata import CERTIFICATE, Metadata, read_metadata
from mobilenext.weights.naming import Array, Recognized
from mobilenext.weights.record import Weights
from mobilenext.weights.recorded import recorded_preprocessing

PublishedCards = tuple[ModelCard, WeightsCard]


class WeightsSelection(TypedDict, total=False):
    """Which weights of a checkpoint, and what cannot be read from it."""

    use: str | None  # raw | ema | auto (EMA if present)
    section: str | None  # key path of the weights in a file that has several
    identity_divisor: int | None


class ReadOptions(WeightsSelection, total=False):
    """The keywords of :func:`read_weights`, for calls that hand them on."""

    model: str | os.PathLike[str] | Architecture | None
    preprocessing: Mapping[str, Any] | None
    labels: str | os.PathLike[str] | Iterable[str] | None


def read_weights(
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | Architecture | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: str | os.PathLike[str] | Iterable[str] | None = None,
) -> Weights:
    """Read a checkpoint, recognize its network and convert it in memory.

    Args:
        path: PyTorch's, Paddle's or a safetensors file; ``.safetensors`` or ``.pdparams`` may be left out.
        model: the expected model, or the file of its architecture; recognized from the file if not given.
        use: ``raw``, ``ema`` or ``auto`` (EMA if present).
        section: key path of the weights in the file, such as ``model_ema`` or ``state_dict/student.``; needed only if
            the file has several to choose from.
        identity_divisor: not stored in a foreign file; known for published ones, else 1.
        preprocessing: fields that replace the stored, recorded or default ones.
        labels: a name for each class, or a file of them.

    Raises:
        WeightsError: unreadable, not one of the networks here, another model than `model`, or not finite.
        UsageError: an unknown model name or option value; several weights in the file to choose from; those of a
            super-network, which only a search can use.
    """
    expected = find_model(model) if model is not None else None
    file = read_foreign(with_suffix(Path(path)))
    metadata = read_metadata(file, path)
    refuse_super_network(metadata.entries.get("task"), path)
    published = None if metadata else find_weights_card(git_blob=file.git_blob, sha256=file.sha256)
    source = _Source(file, metadata, published, path)
    state, network, architecture, identity_divisor = _network_of(source, expected, use, section, identity_divisor)
    tensors, dropped, notes_on_tensors = _tensors(state, network, path)
    divisor, notes_on_divisor = _identity_divisor(identity_divisor, metadata, published, network)
    form, images, assumed, notes_on_images = _form_and_images(preprocessing or {}, metadata, published, file, network)
    notes = (*_note_on_certificate(file, metadata), *notes_on_tensors, *notes_on_divisor, *notes_on_images)
    return Weights(
        model=network.model,
        num_classes=network.num_classes,
        identity_divisor=divisor,
        preprocessing=images,
        tensors=tensors,
        entries=network.entries,
        labels=_labels(labels, metadata, network.num_classes),
        path=file.path,
        sha256=file.sha256,
        source_name=metadata.entries.get("source_name", file.path.name),
        source_sha256=metadata.entries.get("source_sha256", file.sha256),
        card=f"{published[0].name}.{published[1].tag}" if published else metadata.entries.get("card"),
        kind=metadata.entries.get("kind", state.kind),
        dialect=network.dialect,
        dropped=dropped,
        notes=(*state.notes, *notes),
        section=state.section if section is not None else "",
        assumed=assumed,
        task=DETECTION if form else metadata.entries.get("task"),
        architecture=detectors.architecture_of(form) if form else architecture,
    )


@dataclass(frozen=True)
class _Source:
    """A file of weights, and what is known about it."""

    file: ForeignFile
    metadata: Metadata
    published: PublishedCards | None
    path: str | os.PathLike[str]  # as the user named it


def _network_of(
    source: _Source, expected: ModelCard | None, use: str | None, section: str | None, identity_divisor: int | None
) -> tuple[StateDict, Recognized, Mapping[str, Any] | None, int | None]:
    """Return the tensors that are taken, whose network they are, its architecture if it has one, and its divisor.

    A file of this package describes its network; another is of the architecture that the user names, or recognized.
    """
    file, metadata, path = source.file, source.metadata, source.path
    architecture = metadata.architecture()
    if described := described_network(file, metadata, use, identity_divisor):
        state, network = described
        _check_model(network, architecture, path, expected)
        return state, network, architecture, identity_divisor
    state = _select(file, metadata, source.published, use, section)
    if expected and expected.architecture and not metadata:
        state, network, whole = network_of_architecture(expected.architecture, state, path)
        return state, network, whole.to_dict(), whole.identity_divisor
    network = _recognize(state, path)
    _check_model(network, architecture, path, expected)
    return state, network, architecture, identity_divisor


def with_suffix(path: Path) -> Path:
    """Return the path, with the suffix of weights where that was left out."""
    if not path.is_file():
        for suffix in (".safetensors", ".pdparams"):
            candidate = path.with_name(path.name + suffix) if path.name else path
            if candidate.is_file():
                return candidate
    return path


def _select(
    file: ForeignFile, metadata: Metadata, published: PublishedCards | None, use: str | None, section: str | None
) -> StateDict:
    """Choose the weights of a file that may have several: raw or averaged ones, or those of a section."""
    if metadata.check_kind(use):
        use = "auto"
    return select_state_dict(file, use or (published[1].use if published else "auto"), section)


def _note_on_certificate(file: ForeignFile, metadata: Metadata) -> list[str]:
    if metadata and file.format == "paddle-pickle":
        return [f"identity divisor, preprocessing and labels are those of {file.path.name}{CERTIFICATE}"]
    return []


def _recognize(state: StateDict, path: str | os.PathLike[str]) -> Recognized:
    """Recognize the network of these tensors."""
    network = state.recognized
    if network is None:
        try:
            network = naming.recognize({name: tensor.shape for name, tensor in state.tensors.items()})
        except WeightsError as error:  # the notes say what else the file holds
            raise WeightsError("\n".join([f"{path}: {error}", *state.notes])) from None
    return network


def _check_model(
    network: Recognized,
    architecture: Mapping[str, Any] | None,
    path: str | os.PathLike[str],
    expected: ModelCard | None,
) -> None:
    """Raise WeightsError where the network is not the `expected` model, if there is one."""
    if expected is None or expected.name == network.model:
        return
    if expected.architecture is not None:
        # The file of an architecture may leave sizes open, those of weights are decided.
        if architecture and Architecture.from_dict(architecture).is_network_of(expected.architecture):
            return
        raise WeightsError(
            f"{path} holds {network.model} ({network.num_classes} classes), which is not the network of the "
            f"architecture {expected.name}; name the file that it was trained with, or none"
        )
    raise WeightsError(
        f"{path} holds {network.model} ({network.num_classes} classes); asked for {expected.name}. "
        f"Use --model {network.model}, or the weights of {expected.name}."
    )


def _tensors(
    state: StateDict, network: Recognized, path: str | os.PathLike[str]
) -> tuple[dict[str, Array], tuple[str, ...], list[str]]:
    """Return the tensors as float32 in Paddle's names and layouts, the names that were dropped, and notes."""
    counters = tuple(name for name in state.tensors if name.endswith(naming.COUNTER))
    notes = own_names.note_on_auxiliary(entry.paddle_name for entry in network.entries)
    if counters:
        notes.append(f"{len(counters)} num_batches_tracked counters dropped (not used outside PyTorch's training)")
    tensors, rounded = _as_float32(naming.to_paddle(state.tensors, network), path)
    return tensors, counters + state.dropped, notes + rounded


def _as_float32(tensors: Mapping[str, Array], path: str | os.PathLike[str]) -> tuple[dict[str, Array], list[str]]:
    """Convert to float32: exact from 16 bits, rounded (with a note) from float64; integers are not weights."""
    converted: dict[str, Array] = {}
    rounded = 0
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f":
            raise WeightsError(f"{path}: {name} has the type {tensor.dtype}; expected floating point")
        with np.errstate(over="ignore"):
            converted[name] = tensor.astype(np.float32, copy=False)
        if not np.isfinite(converted[name]).all():
            raise WeightsError(
                f"{path}: {name} holds values that are not finite; the checkpoint is damaged or diverged"
            )
        rounded += tensor.dtype.itemsize > 4 and not np.array_equal(converted[name].astype(tensor.dtype), tensor)
    return converted, [f"{rounded} float64 tensors rounded to float32"] if rounded else []


def _identity_divisor(
    option: int | None, metadata: Metadata, published: PublishedCards | None, network: Recognized
) -> tuple[int, list[str]]:
    """Return the caller's divisor, else the stored or published one, else 1 with a note."""
    card = MODELS.get(network.model)  # None: of a task's own network
    notes = []
    if option is not None:
        divisor = option
    elif metadata:
        divisor = metadata.identity_divisor()
    elif published:
        divisor = published[1].identity_divisor
    else:
        divisor = 1
        if card is not None and card.family in PARTIAL:
            notes.append("the identity divisor cannot be read from the file: 1 is assumed (--identity-divisor)")
    if card is not None:
        check_identity_divisor(card, divisor)
    return divisor, notes


def _form_and_images(
    options: Mapping[str, Any],
    metadata: Metadata,
    published: PublishedCards | None,
    file: ForeignFile,
    network: Recognized,
) -> tuple[Form | None, Preprocessing, tuple[str, ...], list[str]]:
    """Return the form of a detector, and what `_preprocessing` returns; the size of the images decides the form's."""
    form, notes = detectors.form_in_file(metadata, network)
    standard = standard_preprocessing(network.model, form)
    images, assumed, notes_on_images = _preprocessing(options, metadata, published, file, standard)
    return form and detectors.form_for_images(form, images), images, assumed, [*notes, *notes_on_images]


def _preprocessing(
    options: Mapping[str, Any],
    metadata: Metadata,
    published: PublishedCards | None,
    file: ForeignFile,
    standard: Preprocessing,
) -> tuple[Preprocessing, tuple[str, ...], list[str]]:
    """Return the stored, published or recorded preprocessing under the caller's fields, the assumed fields, notes."""
    # No file records that of a detector or of a network for CIFAR-10: the authors' is assumed.
    stored, assumed, notes = metadata.preprocessing(), metadata.assumed(), []
    if stored is not None:
        base = stored
    elif published:
        base = published[1].preprocessing
    else:
        recorded, sentences = recorded_preprocessing(file.content) if standard == Preprocessing() else ({}, [])
        base = standard.replace(**recorded)
        assumed = tuple(name for name in base.to_dict() if name not in recorded)
        notes.append(_note_on_preprocessing(base, sentences, assumed, options))
    return base.replace(**options), tuple(name for name in assumed if name not in options), notes


def _labels(
    option: str | os.PathLike[str] | Iterable[str] | None, metadata: Metadata, num_classes: int
) -> tuple[str, ...] | None:
    """Return the caller's names of the classes, else the stored ones."""
    names = labels_of(option) or metadata.labels(num_classes)
    if names and len(names) != num_classes:
        raise UsageError(f"{len(names)} labels for {num_classes} classes: expected one name for each class")
    return names


def _note_on_preprocessing(
    base: Preprocessing, sentences: Sequence[str], assumed: Sequence[str], options: Mapping[str, Any]
) -> str:
    """Say what the file records about preprocessing, and what had to be assumed."""
    parts = list(sentences)
    values = [f"{name} {value}" for name, value in base.to_dict().items() if name in assumed and name not in options]
    if values:
        parts.append(f"assumed: {', '.join(values)}")
    if options:
        parts.append(f"as asked for: {', '.join(f'{name} {value}' for name, value in options.items())}")
    return f"preprocessing: {'; '.join(parts)}"
