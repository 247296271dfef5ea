"""What a search finds: the frozen record of a network, and its file, ``architecture.json``.

There are two spaces. In ``cell`` a network repeats two cells (DARTS), the record holds their genotype; the form, the
channels and the number of cells may be left open, and then the size of the images decides them. In ``blocks`` it is a
MobileNeXt, the record holds a plan for each of its blocks.

A file may be a stranger's. It is never executed, every field has a type and bounds, and what it describes is bounded
as a whole, so that it cannot decide how much memory or time is taken. Nothing here imports Paddle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError, UsageError, nearest
from mobilenext.files import write_atomically
from mobilenext.json_files import Unfit, check, parse, read_bytes, record, shown, whole
from mobilenext.models.architecture_fields import (
    CELL_FORMS,
    HEAD,
    SCHEMA,
    SPACES,
    check_blocks,
    check_cells,
    fields_of,
)
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.genotype import Genotype

SIZES = ("form", "channels", "cells")  # of a network of cells; a run may have others than the file
LARGEST_CIFAR_IMAGE = 32  # pixels; for larger images the form is imagenet
LARGEST_FILE = 1 << 20  # bytes; that of 200 blocks has 40 kB
_OF_ONE_SPACE = {"cell": ("genotype", *SIZES), "blocks": ("blocks", "identity_divisor", "base")}
_EXPECTED = "expected the architecture.json of a search"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network of one of the two spaces, and where it comes from.

    Raises:
        UsageError: an operator that does not exist, cells or blocks that do not fit together, or more than the bounds.
    """

    space: str  # one of SPACES

    # Of the space cell; where the last three are None, the size of the images decides them (`completed`).
    genotype: Genotype | None = None
    form: str | None = None  # one of CELL_FORMS
    channels: int | None = None  # of the first cells; even, since a reduction halves them
    cells: int | None = None

    # Of the space blocks.
    blocks: tuple[BlockPlan, ...] = ()
    identity_divisor: int = 1
    base: str | None = None  # the model that was searched over

    # Where it comes from: for people, nothing is computed from it.
    operators: tuple[str, ...] = ()  # what was searched over, in the order of the alphas; "none" may be among them
    seed: int | None = None
    data_digest: str | None = None
    cost_table_digest: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict, hash=False)  # such as parameters, mult_adds

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "operators", tuple(self.operators))
        numbers = {name: getattr(value, "item", lambda value=value: value)() for name, value in self.numbers.items()}
        object.__setattr__(self, "numbers", numbers)  # of NumPy's kinds too, which JSON cannot hold
        if self.space not in SPACES:
            raise UsageError(f"space is {shown(self.space)}; expected {' or '.join(SPACES)}")
        unset = {entry.name: entry.default for entry in dataclasses.fields(self)}
        for space, names in _OF_ONE_SPACE.items():
            for name in names:
                if space != self.space and getattr(self, name) != unset[name]:
                    raise UsageError(f"an architecture of the space {self.space} has no {name}; that is of {space}")
        try:
            record(fields_of(self.space))(self.to_dict(), "")
            if self.genotype is not None:
                check_cells(self.genotype, self.channels, self.cells)
            else:
                check_blocks(self.blocks)
        except Unfit as error:
            raise UsageError(str(error)) from error

    @property
    def name(self) -> str:
        """Return a name that tells this network from others: the space and eight digits of its checksum."""
        content = json.dumps(self._network(), sort_keys=True)
        return f"{self.space}_{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @property
    def stride(self) -> int:
        """Return the pixels between two places of the last map; images are at least as large.

        The sides of images for cells are multiples of it.
        """
        if self.space == "cell":
            return 4 if self.form == "cifar" else 32
        return 2 * math.prod(block.stride for block in self.blocks)

    def completed(self, image_size: int) -> Architecture:
        """Return the record with a form, channels and cells, for images of `image_size` pixels where they are open.

        Up to 32 pixels that is the form cifar with 36 channels and 20 cells, above it imagenet with 48 and 14.
        """
        if self.space != "cell":
            return self
        form = self.form or ("cifar" if image_size <= LARGEST_CIFAR_IMAGE else "imagenet")
        channels, cells = CELL_FORMS[form]
        return self.replace(form=form, channels=self.channels or channels, cells=self.cells or cells)

    def replace(self, **values: Any) -> Architecture:
        """Return a copy with other values.

        Raises:
            UsageError: no such field, or a value outside its bounds.
        """
        known = [entry.name for entry in dataclasses.fields(self)]
        for name in values:
            if name not in known:
                raise UsageError(f"an architecture has no {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        return dataclasses.replace(self, **values)

    def is_network_of(self, other: Architecture) -> bool:
        """Return whether both describe the same network; where one leaves a size open, that of the other holds."""
        ours, theirs = self._network(), other._network()
        open_sizes = {name for name in SIZES if ours.get(name) is None or theirs.get(name) is None}
        return all(ours.get(name) == theirs.get(name) for name in (ours.keys() | theirs.keys()) - open_sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it; `from_dict` returns an equal one."""
        return {
            "schema": SCHEMA,
            **self._network(),
            **({} if self.space == "cell" else {"base": self.base}),
            "operators": list(self.operators),
            "seed": self.seed,
            "data_digest": self.data_digest,
            "cost_table_digest": self.cost_table_digest,
            "numbers": dict(self.numbers),
        }

    def _network(self) -> dict[str, Any]:
        """Return what decides the network."""
        if self.space == "cell":
            cells = {kind: list(map(list, getattr(self.genotype, kind, ()))) for kind in ("normal", "reduce")}
            return {"space": self.space, **cells, **{name: getattr(self, name) for name in SIZES}}
        blocks = [dataclasses.asdict(block) for block in self.blocks]
        return {"space": self.space, "blocks": blocks, "identity_divisor": self.identity_divisor}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """Return the record of what `to_dict` returned; what is not there is open, or not known.

        Raises:
            UsageError: a later schema, another space, a field too many, or a value outside its bounds.
        """
        try:
            record({"schema": whole(1)})(dict(values), "")
            if values["schema"] > SCHEMA:
                raise Unfit(
                    f"schema is {values['schema']}; expected {SCHEMA}: a later version of this package wrote it"
                )
            record(HEAD)(dict(values), "")
            fields = fields_of(values["space"])
            if unknown := values.keys() - fields.keys():
                name = shown(min(map(str, unknown)))
                raise Unfit(f"the space {values['space']} has no field {name}; expected {', '.join(fields)}")
            record(fields)(dict(values), "")
        except Unfit as error:
            raise UsageError(str(error)) from error
        others = fields.keys() - {"schema", "normal", "reduce"}
        arguments = {name: values[name] for name in others if values.get(name) is not None}
        if values["space"] == "cell":
            return cls(**arguments, genotype=Genotype(values["normal"], values["reduce"]))
        return cls(**{**arguments, "blocks": tuple(BlockPlan(**block) for block in values["blocks"])})


# The file.


def read_architecture(path: str | os.PathLike[str]) -> Architecture:
    """Read the file of an architecture.

    Raises:
        DataError: no such file, or one that is broken, of a later version, of another space, or too large.
    """
    missing = f"is missing; {_EXPECTED}"
    content = read_bytes(Path(path), LARGEST_FILE, remedy=_EXPECTED, missing=missing)
    values = parse(content, str(path), remedy=_EXPECTED)
    check(values, {}, str(path), remedy=_EXPECTED)
    try:
        return Architecture.from_dict(values)
    except UsageError as error:
        raise DataError(f"{path} holds no architecture that can be used: {error}") from error


def write_architecture(path: str | os.PathLike[str], architecture: Architecture) -> None:
    """Write the file of an architecture, whole or not at all.

    Raises:
        OutputError: it cannot be written; an earlier one is as it was.
    """
    content = json.dumps(architecture.to_dict(), indent=2, ensure_ascii=False)
    write_atomically(Path(path), f"{content}\n".encode())
