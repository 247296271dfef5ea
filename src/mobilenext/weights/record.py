"""Weights as this package uses them: tensors in Paddle's names and layouts, with everything that belongs to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data.coco_classes import COCO_CLASSES
from mobilenext.data.labels import imagenet_labels
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.models import DETECTION, MODELS
from mobilenext.models.published import WeightsCard

if TYPE_CHECKING:
    from mobilenext.weights.naming import Array, Entry

FORMAT = "mobilenext weights 1"
CLASSIFICATION = "classification"  # is not written: files without a task are of classification


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """Everything that a network is built from."""

    model: str
    num_classes: int
    identity_divisor: int
    task: str | None = None  # name of the task in `mobilenext.tasks`; None: classification
    architecture: Mapping[str, Any] | None = None  # JSON, for the task's builder; None: that of the model's card


@dataclass(frozen=True, kw_only=True)
class WeightsRecord(NetworkRecord):
    """Everything that must be known to use weights correctly, except the tensors."""

    preprocessing: Preprocessing
    labels: tuple[str, ...] | None  # a name for each class
    path: Path  # the file that was read
    sha256: str  # of that file
    source_name: str  # the file that the weights were first converted from, and its checksum
    source_sha256: str
    card: str | None  # "model.tag" of published weights
    kind: str  # raw | ema
    notes: tuple[str, ...]
    section: str = ""  # key path in the file, if the caller chose one
    assumed: tuple[str, ...] = ()  # fields of the preprocessing that no source states

    @property
    def published(self) -> WeightsCard | None:
        """Card of these weights; None where they are not published ones."""
        if self.card is None:
            return None
        model, _, tag = self.card.partition(".")
        return next((card for card in MODELS[model].weights if card.tag == tag), None) if model in MODELS else None


@dataclass(frozen=True, kw_only=True)
class Weights(WeightsRecord):
    """A record with its tensors."""

    tensors: Mapping[str, Array] = field(repr=False)  # float32, Paddle's names and layouts
    entries: tuple[Entry, ...] = field(repr=False)
    dialect: str  # names in the file: paddle | pytorch
    dropped: tuple[str, ...]  # entries of the file that no network has a place for

    def record(self) -> WeightsRecord:
        """Return everything but the tensors: small enough to be sent to another process."""
        return WeightsRecord(**{entry.name: getattr(self, entry.name) for entry in fields(WeightsRecord)})

    def metadata(self) -> dict[str, str]:
        """Return the entries that a safetensors file stores beside the tensors."""
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
        if self.task not in (None, CLASSIFICATION):
            values["task"] = str(self.task)
        if self.architecture is not None:
            values["architecture"] = json.dumps(self.architecture, ensure_ascii=False, sort_keys=True)
        return values


# Whose the classes are where nobody names them, by the task and their number.
_OWNERS = {(CLASSIFICATION, 1000): "ImageNet", (DETECTION, 20): "Pascal VOC", (DETECTION, 80): "COCO"}


def names_of_classes(record: WeightsRecord) -> tuple[tuple[str, ...] | None, bool]:
    """Return a name for each class and whether it is assumed.

    They are ImageNet's for a classifier of 1,000 unnamed classes, VOC's or COCO's for a detector of 20 or 80.
    """
    owner = _owner_of_names(record)
    if record.labels or owner is None:
        return record.labels, False
    if owner == "ImageNet":
        names = imagenet_labels()
    elif owner == "COCO":
        names = COCO_CLASSES
    else:
        from mobilenext.data.voc import VOC_CLASSES  # here, because the reader of annotations comes with it

        names = VOC_CLASSES
    return names, record.published is None


def note_on_assumed_names(record: WeightsRecord) -> str:
    """Return the note on names that `names_of_classes` assumes."""
    network = "detector" if record.task == DETECTION else "network"
    return (
        f"names of {_owner_of_names(record)}'s classes assumed: the {network} has {record.num_classes:,} classes and "
        "no names (other names: --labels FILE)"
    )


def _owner_of_names(record: WeightsRecord) -> str | None:
    return _OWNERS.get((record.task or CLASSIFICATION, record.num_classes))
