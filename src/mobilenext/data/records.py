"""Records of images, and a data set of them: checked, in a fixed order, with a digest.

A task has its own kind of record: classification a `LabelledImage`. Another task derives its own from `Record`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mobilenext.data.listing import ignored_notes, is_leftover_name

_Dataset = TypeVar("_Dataset", bound="Dataset")


@dataclass(frozen=True, slots=True)  # of which a data set may have a million
class Record:
    """One image of a data set."""

    index: int  # position in the data set, from 0
    file: str  # where it is; a text, as a million of them take a third of the time of as many paths
    name: str  # how it is shown and stored: relative to the root if it lies below it, with slashes

    @property
    def path(self) -> Path:
        """Return where the file is."""
        return Path(self.file)

    def line(self) -> str:
        """Return the text that stands for this record in the digest: everything that decides a result but pixels."""
        return self.name


@dataclass(frozen=True, slots=True)
class LabelledImage(Record):
    """One image with its class."""

    label: int  # class, from 0

    def line(self) -> str:
        return f"{self.name}\0{self.label}"  # a null cannot be in a name


@dataclass(frozen=True)
class Dataset:
    """Checked records in a fixed order."""

    root: Path
    layout: str  # how the records were found, such as "list" or "class-folders"
    list_file: Path | None
    records: tuple[Record, ...]
    class_names: tuple[str, ...] | None  # by label; None if the data set does not name its classes
    total: int  # records before `limit`
    ignored: tuple[str, ...]  # files that are no images and what systems leave beside data, relative to the root
    notes: tuple[str, ...] = ()  # how the layout was understood, where that is not plain
    unreadable: Mapping[Path, str] = field(default_factory=dict)  # images of formats that are not read: what to do

    def __len__(self) -> int:
        return len(self.records)

    def first(self: _Dataset, limit: int | None) -> _Dataset:
        """Return the data set with its first `limit` records; None keeps all."""
        if limit is None:
            return self
        records = self.records[:limit]
        unreadable = {r.path: self.unreadable[r.path] for r in records if r.path in self.unreadable}
        return dataclasses.replace(self, records=records, unreadable=unreadable)

    def all_notes(self) -> list[str]:
        """Return sentences on how the layout was understood and what was ignored."""
        leftovers = {name for name in self.ignored if is_leftover_name(Path(name).name)}
        return [*self.notes, *ignored_notes(leftovers, [name for name in self.ignored if name not in leftovers])]

    def digest(self) -> str:
        """Return the SHA-256 over the lines of all records in order, in hexadecimal; pixels are not read."""
        sha256 = hashlib.sha256()
        for record in self.records:
            # Names that are no text at all come from the file system as surrogates.
            sha256.update(f"{record.line()}\n".encode("utf-8", "surrogateescape"))
        return sha256.hexdigest()


@dataclass(frozen=True)
class LabelledDataset(Dataset):
    """Images with a class each, by class folders or a list."""

    records: tuple[LabelledImage, ...]
    empty: tuple[str, ...] = ()  # class folders without images
