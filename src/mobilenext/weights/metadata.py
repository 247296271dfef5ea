"""The reader of the metadata that this package stores with weights, in the file or in a certificate beside it.

Each entry is checked when it is asked for: an entry that an option replaces may be damaged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError, WeightsError
from mobilenext.json_files import parse, read_json, record, text
from mobilenext.weights.foreign import ForeignFile
from mobilenext.weights.record import CLASSIFICATION, FORMAT, NetworkRecord

CERTIFICATE = ".certificate.json"  # `convert` writes a certificate beside a file, under the file's name and this
_CERTIFICATE = {"metadata": record({}), "output.sha256": text()}


@dataclass(frozen=True)
class Metadata:
    """The entries that `Weights.metadata` made; empty for a file of another program.

    Each method raises WeightsError where its entry cannot be used.
    """

    path: str | os.PathLike[str]  # of the weights, as the caller names it
    entries: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def identity_divisor(self) -> int:
        """Return the stored identity divisor; there must be one."""
        return self._whole("identity_divisor")

    def architecture(self) -> Mapping[str, Any] | None:
        """Return the stored architecture, or None where the network is that of the model's card."""
        architecture = self._json("architecture")
        if architecture is not None and not isinstance(architecture, dict):
            raise WeightsError(f"{self.path}: its metadata has an architecture that is no record")
        return architecture

    def network(self, identity_divisor: int | None = None) -> NetworkRecord | None:
        """Return what a task builds the network from; None of a classifier of a model here, which its tensors tell.

        Args:
            identity_divisor: takes the place of the stored one.
        """
        task, architecture = self.entries.get("task"), self.architecture()
        if task in (None, CLASSIFICATION) and architecture is None:
            return None
        return NetworkRecord(
            model=self.entries.get("model", ""),
            num_classes=self._whole("num_classes"),
            identity_divisor=self.identity_divisor() if identity_divisor is None else identity_divisor,
            task=task,
            architecture=architecture,
        )

    def check_kind(self, use: str | None) -> bool:
        """Return whether the file is one of ours and `use` names a kind: our own files hold one kind, and name it.

        Raises:
            WeightsError: it holds the other kind.
        """
        if not self or use not in ("raw", "ema"):
            return False
        kind = self.entries.get("kind")
        if kind != use:
            raise WeightsError(f"{self.path} holds {kind} weights; convert the original again with --use {use}")
        return True

    def preprocessing(self) -> Preprocessing | None:
        """Return the stored preprocessing, or None where the file has none."""
        fields = self._json("preprocessing")
        if fields is None:
            return None
        try:
            if not isinstance(fields, dict):
                raise UsageError("expected a record")
            return Preprocessing.from_dict(fields)
        except UsageError as error:
            raise WeightsError(f"{self.path}: its metadata has a preprocessing that cannot be used: {error}") from error

    def assumed(self) -> tuple[str, ...]:
        """Return the fields of the stored preprocessing that had to be assumed when the weights were converted."""
        names = self._json("assumed") or []
        known = [entry.name for entry in fields(Preprocessing)]
        if not isinstance(names, list) or not all(name in known for name in map(str, names)):
            raise WeightsError(
                f"{self.path}: its metadata says assumed = {names!r}; expected names of the preprocessing's fields"
            )
        return tuple(names)

    def labels(self, num_classes: int) -> tuple[str, ...] | None:
        """Return the stored names of the classes, or None where the file has none."""
        names = self._json("labels")
        if names is None:
            return None
        if not isinstance(names, list) or len(names) != num_classes or not all(isinstance(name, str) for name in names):
            raise WeightsError(
                f"{self.path}: its metadata has labels that are not {num_classes} names, one for each class"
            )
        return tuple(names)

    def _whole(self, name: str) -> int:
        """Return a stored whole number from 1 up; there must be one."""
        value = self.entries.get(name, "")
        if not value.isdecimal() or len(value) > 9 or int(value) < 1:
            raise WeightsError(
                f"{self.path}: its metadata says {name} = {value[:80]!r}; expected a whole number from 1 up"
            )
        return int(value)

    def _json(self, name: str) -> Any:
        """Return the parsed entry, or None where the file has none."""
        if name not in self.entries:
            return None
        value = self.entries[name]
        try:
            return parse(value.encode(errors="surrogatepass"), name)
        except DataError as error:
            raise WeightsError(f"{self.path}: its metadata says {name} = {value[:80]!r}; expected JSON") from error


def read_metadata(file: ForeignFile, path: str | os.PathLike[str]) -> Metadata:
    """Return what this package stored with `file`; a Paddle file has no room for it, its certificate has.

    Args:
        file: the weights file.
        path: its name in messages.

    Raises:
        WeightsError: a certificate that cannot be read.
    """
    entries: Any = file.metadata
    if file.format == "paddle-pickle":
        beside = file.path.with_name(file.path.name + CERTIFICATE)
        if not beside.exists():
            return Metadata(path)
        try:
            certificate = read_json(beside, _CERTIFICATE, remedy="restore it, or delete it to go on without")
        except DataError as error:
            raise WeightsError(str(error)) from error
        entries = certificate["metadata"] if certificate["output"]["sha256"] == file.sha256 else {}
    usable = isinstance(entries, dict) and all(isinstance(value, str) for value in entries.values())
    return Metadata(path, entries) if usable and entries.get("format") == FORMAT else Metadata(path)


def stored_task(path: Path) -> str | None:
    """Return the name of the task that a weights file was trained for; None where it names none.

    Only the metadata is read. A file that cannot be read names none: reading the weights says what is wrong with it.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="numpy") as file:
                entries = file.metadata() or {}
        else:
            beside = path.with_name(path.name + CERTIFICATE)
            entries = read_json(beside, _CERTIFICATE)["metadata"] if beside.is_file() else {}
    except (OSError, SafetensorError, DataError):
        return None
    task = entries.get("task") if entries.get("format") == FORMAT else None
    return task if isinstance(task, str) else None
