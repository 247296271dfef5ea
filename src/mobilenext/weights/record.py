"""Weights as this package uses them: tensors in Paddle's names and layouts, with everything that belongs to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mobilenext.data.labels import imagenet_labels
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.models import MODELS
from mobilenext.models.cards import WeightsCard
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


IMAGENET_ASSUMED = (
    "names of ImageNet's classes assumed: the network has 1,000 classes and no names (other names: --labels FILE)"
)


def names_of_classes(record: WeightsRecord) -> tuple[tuple[str, ...] | None, bool]:
    """Return a name for each class and whether it is assumed: ImageNet's for a classifier of 1,000 unnamed classes."""
    if record.labels or record.task not in (None, CLASSIFICATION) or record.num_classes != len(imagenet_labels()):
        return record.labels, False
    return imagenet_labels(), record.published is None
