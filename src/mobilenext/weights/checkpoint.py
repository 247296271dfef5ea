"""Weights as this package uses them: tensors in Paddle's names and layouts, with all that belongs to them.

``read_weights`` takes any file that ``foreign`` can read, our own safetensors among them, finds out what it is and
converts it in memory; ``write_weights`` writes it; ``load_weights`` puts it into a network. All three are strict.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.data.labels import imagenet_labels, labels_of
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError, WeightsError
from mobilenext.files import git_blob_id, write_atomically
from mobilenext.json_files import parse, read_json, record, text
from mobilenext.models import MODELS, build_network, check_identity_divisor, find_model
from mobilenext.models.cards import WeightsCard, find_weights_card
from mobilenext.weights import naming
from mobilenext.weights.foreign import ForeignFile, StateDict, read_foreign, select_state_dict
from mobilenext.weights.naming import Array, Entry
from mobilenext.weights.pretrained import with_suffix
from mobilenext.weights.recorded import recorded_preprocessing

if TYPE_CHECKING:
    from paddle import nn

FORMAT = "mobilenext weights 1"
CERTIFICATE = ".certificate.json"  # what convert writes beside a file has its name and this
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """What must be known about weights to use them rightly; everything but the tensors."""

    model: str
    num_classes: int
    identity_divisor: int
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None  # a name for each class
    path: Path  # the file that was read
    sha256: str  # of that file
    source_name: str  # the file that the weights first came from, and its checksum
    source_sha256: str
    card: str | None  # "model.tag" of published weights
    kind: str  # raw | ema
    notes: tuple[str, ...]
    section: str = ""  # key path in the file, where it was asked for
    assumed: tuple[str, ...] = ()  # fields of the preprocessing that nobody stated

    @property
    def published(self) -> WeightsCard | None:
        """The card of the published weights that these are."""
        if self.card is None:
            return None
        model, _, tag = self.card.partition(".")
        return next((card for card in MODELS[model].weights if card.tag == tag), None) if model in MODELS else None


IMAGENET_ASSUMED = (
    "names of ImageNet's classes assumed: the network has 1,000 classes and no names (other names: --labels FILE)"
)


def names_of_classes(record: WeightsRecord) -> tuple[tuple[str, ...] | None, bool]:
    """A name for each class, and whether that is an assumption: ImageNet's for 1,000 classes without names."""
    if record.labels or record.num_classes != len(imagenet_labels()):
        return record.labels, False
    return imagenet_labels(), record.published is None


@dataclass(frozen=True, kw_only=True)
class Weights(WeightsRecord):
    """Everything that a checkpoint file says, or that its card knows."""

    tensors: Mapping[str, Array] = field(repr=False)  # float32, Paddle's names and layouts
    entries: tuple[Entry, ...] = field(repr=False)
    dialect: str  # names in the file: paddle | pytorch
    dropped: tuple[str, ...]  # entries of the file that no network has a place for

    def record(self) -> WeightsRecord:
        """All but the tensors: small, and quick to hand to another process."""
        return WeightsRecord(**{each.name: getattr(self, each.name) for each in fields(WeightsRecord)})

    def metadata(self) -> dict[str, str]:
        """What is stored beside the tensors in a safetensors file."""
        values = {
            "format": FORMAT,
            "model": self.model,
            "num_classes": str(self.num_classes),
            "identity_divisor": str(self.identity_divisor),
            "preprocessing": json.dumps(self.preprocessing.to_dict()),
            "kind": self.kind,
            "source_name": self.source_name,
            "source_sha256": self.source_sha256,
        }
        if self.assumed:
            values["assumed"] = json.dumps(self.assumed)
        if self.card:
            values["card"] = self.card
        if self.labels:
            values["labels"] = json.dumps(self.labels, ensure_ascii=False)
        return values


def read_weights(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: str | os.PathLike[str] | Iterable[str] | None = None,
) -> Weights:
    """Read a checkpoint, recognise its network and convert it in memory.

    Args:
        path: PyTorch's, Paddle's or a safetensors file; ``.safetensors`` or ``.pdparams`` may be left out.
        model: what it must be; recognised from the file when not given.
        use: ``raw``, ``ema`` or ``auto`` (EMA where there is one).
        section: key path of the weights in the file, such as ``model_ema`` or ``state_dict/student.``; only where the
            file has several to choose from.
        identity_divisor: cannot be read from a foreign file; known for published ones, else 1.
        preprocessing: fields that replace the stored, recorded or default ones.
        labels: a name for each class, or a file of them.

    Raises:
        WeightsError: unreadable, not one of the networks here, another model than asked for, or not finite.
        UsageError: an unknown model name or option value; several weights in the file to choose from.
    """
    asked = find_model(model) if model is not None else None
    file = read_foreign(with_suffix(Path(path)))
    stored = _stored_metadata(file)
    published = None if stored else find_weights_card(git_blob=git_blob_id(file.path), sha256=file.sha256)
    if stored and "card" in stored:
        published_name: str | None = stored["card"]
    else:
        published_name = f"{published[0].name}.{published[1].tag}" if published else None

    if stored and use in ("raw", "ema"):
        if stored.get("kind") != use:
            raise WeightsError(
                f"{path} holds {stored.get('kind')} weights; convert the original again with --use {use}"
            )
        use = "auto"
    state = select_state_dict(file, use or (published[1].use if published else "auto"), section)
    notes = list(state.notes)
    if stored and file.format == "paddle-pickle":
        notes.append(f"identity divisor, preprocessing and labels are those of {file.path.name}{CERTIFICATE}")
    recognised = state.recognised or _recognised(state, path)
    if asked and asked.name != recognised.model:
        raise WeightsError(
            f"{path} holds {recognised.model} ({recognised.num_classes} classes); asked for {asked.name}. "
            f"Use --model {recognised.model}, or the weights of {asked.name}."
        )
    dropped = tuple(name for name in state.tensors if name.endswith(naming.COUNTER))
    if dropped:
        notes.append(f"{len(dropped)} num_batches_tracked counters dropped (not used outside PyTorch's training)")
    dropped += state.dropped
    tensors, rounded = _as_float32(naming.to_paddle(state.tensors, recognised), path)
    notes += rounded

    divisor = identity_divisor
    if divisor is None and stored:
        divisor = _stored_integer(stored, "identity_divisor", path)
    if divisor is None:
        divisor = published[1].identity_divisor if published else 1
        if not published and MODELS[recognised.model].family == "mobilenext":
            notes.append("the identity divisor cannot be read from the file: 1 is assumed (--identity-divisor)")
    check_identity_divisor(MODELS[recognised.model], divisor)

    asked_fields = dict(preprocessing or {})
    base, assumed = _stored_preprocessing(stored, path), _stored_assumptions(stored, path)
    if base is None and published:
        base = published[1].preprocessing
    elif base is None:
        recorded, sentences = recorded_preprocessing(file.content)
        base = Preprocessing().replace(**recorded)
        assumed = tuple(name for name in base.to_dict() if name not in recorded)
        notes.append(_preprocessing_note(base, sentences, assumed, asked_fields))
    names = labels_of(labels) or _stored_labels(stored, recognised.num_classes, path)
    if names and len(names) != recognised.num_classes:
        raise UsageError(f"{len(names)} labels for {recognised.num_classes} classes: expected one name for each class")
    return Weights(
        model=recognised.model,
        num_classes=recognised.num_classes,
        identity_divisor=divisor,
        preprocessing=base.replace(**asked_fields),
        tensors=tensors,
        entries=recognised.entries,
        labels=names,
        path=file.path,
        sha256=file.sha256,
        source_name=stored.get("source_name", file.path.name),
        source_sha256=stored.get("source_sha256", file.sha256),
        card=published_name,
        kind=stored.get("kind", state.kind),
        dialect=recognised.dialect,
        dropped=dropped,
        notes=tuple(notes),
        section=state.section if section is not None else "",
        assumed=tuple(name for name in assumed if name not in asked_fields),
    )


def _recognised(state: StateDict, path: str | os.PathLike[str]) -> naming.Recognised:
    """The network that these tensors are of, or a WeightsError that also says what else the file holds."""
    try:
        return naming.recognise({name: tensor.shape for name, tensor in state.tensors.items()})
    except WeightsError as error:
        raise WeightsError("\n".join([f"{path}: {error}", *state.notes])) from None


def _preprocessing_note(
    base: Preprocessing, sentences: Sequence[str], assumed: Sequence[str], asked: Mapping[str, Any]
) -> str:
    """What the file records about preprocessing, and what it leaves to be assumed."""
    parts = list(sentences)
    if left := [f"{name} {value}" for name, value in base.to_dict().items() if name in assumed and name not in asked]:
        parts.append(f"assumed: {', '.join(left)}")
    if asked:
        parts.append(f"as asked for: {', '.join(f'{name} {value}' for name, value in asked.items())}")
    return f"preprocessing: {'; '.join(parts)}"


_CERTIFICATE = {"metadata": record({}), "output.sha256": text()}


def _stored_metadata(file: ForeignFile) -> Mapping[str, str]:
    """What `Weights.metadata` stored: in the file or, for Paddle's, which has no room, in its certificate."""
    stored: Any = file.metadata
    if file.format == "paddle-pickle":
        path = file.path.with_name(file.path.name + CERTIFICATE)
        if not path.exists():
            return {}
        try:
            certificate = read_json(path, _CERTIFICATE, remedy="restore it, or delete it to go on without")
        except DataError as error:
            raise WeightsError(str(error)) from error
        stored = certificate["metadata"] if certificate["output"]["sha256"] == file.sha256 else {}
    usable = isinstance(stored, dict) and all(isinstance(value, str) for value in stored.values())
    return stored if usable and stored.get("format") == FORMAT else {}


def _stored_integer(stored: Mapping[str, str], name: str, path: str | os.PathLike[str]) -> int:
    value = stored.get(name, "")
    if not value.isdecimal() or len(value) > 9 or int(value) < 1:
        raise WeightsError(f"{path}: its metadata says {name} = {value[:80]!r}; expected a whole number from 1 up")
    return int(value)


def _stored_json(stored: Mapping[str, str], name: str, path: str | os.PathLike[str]) -> Any:
    """The metadata entry, or None where the file has none."""
    try:
        return parse(stored[name].encode(errors="surrogatepass"), name) if name in stored else None
    except DataError as error:
        raise WeightsError(f"{path}: its metadata says {name} = {stored[name][:80]!r}; expected JSON") from error


def _stored_preprocessing(stored: Mapping[str, str], path: str | os.PathLike[str]) -> Preprocessing | None:
    fields = _stored_json(stored, "preprocessing", path)
    if fields is None:
        return None
    try:
        if not isinstance(fields, dict):
            raise UsageError("expected a record")
        return Preprocessing.from_dict(fields)
    except UsageError as error:
        raise WeightsError(f"{path}: its metadata has a preprocessing that cannot be used: {error}") from error


def _stored_assumptions(stored: Mapping[str, str], path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Fields of the stored preprocessing that had to be assumed when these weights were converted."""
    names = _stored_json(stored, "assumed", path) or []
    if not isinstance(names, list) or not all(name in Preprocessing().to_dict() for name in map(str, names)):
        raise WeightsError(
            f"{path}: its metadata says assumed = {names!r}; expected names of the preprocessing's fields"
        )
    return tuple(names)


def _stored_labels(stored: Mapping[str, str], num_classes: int, path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    names = _stored_json(stored, "labels", path)
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != num_classes or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{path}: its metadata has labels that are not {num_classes} names, one for each class")
    return tuple(names)


def _as_float32(tensors: Mapping[str, Array], path: str | os.PathLike[str]) -> tuple[dict[str, Array], list[str]]:
    """All tensors as float32: exact from 16 bits, rounded (and said so) from float64; integers are not weights."""
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


def write_weights(weights: Weights, path: str | os.PathLike[str], *, to: str = "paddle") -> dict[str, Array]:
    """Write a safetensors or ``.pdparams`` file, atomically, and return the tensors as they were written.

    Args:
        weights: what to write.
        path: the suffix decides the format; ``.pdparams`` has no room for the metadata.
        to: names and layouts, ``paddle`` or ``pytorch`` (safetensors only).

    Raises:
        UsageError: another suffix.
        OutputError: it cannot be written.
    """
    path = Path(path)
    check_output(path, to)
    tensors = naming.to_pytorch(weights.tensors, weights.entries) if to == "pytorch" else dict(weights.tensors)
    if path.suffix == ".safetensors":
        content = safetensors_bytes(tensors, weights.metadata())
    else:
        import io

        import paddle

        buffer = io.BytesIO()
        paddle.save(dict(tensors), buffer)
        content = buffer.getvalue()
    write_atomically(path, content)
    return tensors


def check_output(path: Path, to: str) -> None:
    """Raises UsageError for a suffix that `write_weights` does not know."""
    if path.suffix == ".safetensors" or (path.suffix == ".pdparams" and to == "paddle"):
        return
    expected = ".safetensors or .pdparams" if to == "paddle" else ".safetensors (PyTorch reads it without pickle)"
    raise UsageError(f"output {path} has the suffix {path.suffix!r}; expected {expected}")


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file; the same for the same content, so that checksums can be compared.

    The safetensors package writes the metadata in an order that changes from one call to the next.
    """
    from safetensors.numpy import save

    # It writes memory as it lies: a transposed array would come out scrambled.
    content = save({name: np.asarray(array, order="C") for name, array in tensors.items()}, metadata=dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]


def load_weights(network: nn.Layer, weights: Weights | str | os.PathLike[str], *, use: str | None = None) -> Weights:
    """Put weights into a network that :func:`mobilenext.create_model` made; every tensor on both sides exactly once.

    Args:
        network: its own tensors stay untouched when anything does not fit.
        weights: a file, or what :func:`read_weights` returned.
        use: see :func:`read_weights`.

    Returns:
        The weights, with what is known about them.

    Raises:
        WeightsError: a name or a shape differs; both sides are listed.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights, use=use)
    entries = naming.entries_of(network)
    tensors = weights.tensors
    if getattr(network, "features_only", False):
        heads = tuple(f"{name}." for name in network.head_layers)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
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
    network.set_state_dict(dict(tensors))
    return weights


def network_of(weights: Weights) -> nn.Layer:
    """The network in evaluation mode with these weights."""
    network = build_network(weights.model, num_classes=weights.num_classes, identity_divisor=weights.identity_divisor)
    load_weights(network, weights)
    network.eval()
    return network
