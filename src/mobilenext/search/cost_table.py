"""A table of the milliseconds that the candidates of a search over blocks take: its record, its file, and its use.

`mobilenext.search.measuring` makes it. The latency of a network is taken to be the sum of that of its parts; how well
that holds on the whole published network is in the table, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.errors import DataError, UsageError
from mobilenext.files import write_atomically
from mobilenext.json_files import Fields, Unfit, check, many, number, parse, read_bytes, record, text, whole
from mobilenext.models.block_plan import BlockPlan
from mobilenext.search.cost import Costs, block_sizes

SCHEMA = 1
LARGEST_FILE = 1 << 20  # bytes; a table has about 40 kB
MOST_CANDIDATES = 1000  # a MobileNeXt has 36
_REMEDY = "expected the file of `mobilenext search --measure-costs RUNTIME -o FILE`"
_PLAN: Fields = {
    **dict.fromkeys(("in_channels", "hidden_channels", "out_channels"), whole(1, 1 << 16)),
    "stride": whole(1, 2),
    "kernel_size": whole(1, 15),
}
_MILLISECONDS = number(0, 1e6)
_FIELDS: Fields = {
    "schema": whole(1),
    "model": text(),
    "identity_divisor": whole(1, 64),
    "image_size": whole(1, 1 << 14),
    "runtime": text(),
    "threads": whole(1, 1 << 12),
    "fixed": many(record({"classes": whole(1), "ms": _MILLISECONDS}), 2),
    "candidates": many(record({"size": whole(1, 1 << 14), "plan": record(_PLAN), "ms": _MILLISECONDS})),
    "published": record({"classes": whole(1), "measured_ms": _MILLISECONDS, "sum_ms": _MILLISECONDS}),
    "environment": record({"processor": text()}),
    "digest": text(),
}
_DECIDES = ("model", "identity_divisor", "image_size", "runtime", "threads", "fixed", "candidates")


@dataclass(frozen=True)
class CostTable:
    """Milliseconds of the parts of one model's networks, for one image of a size, a runtime and a number of threads."""

    model: str
    identity_divisor: int
    image_size: int
    runtime: str
    threads: int
    fixed: tuple[tuple[int, float], ...]  # classes, and the ms of all that no choice decides with so many
    candidates: Mapping[tuple[int, BlockPlan], float]  # by the side of the map that it takes, and its plan
    published: Mapping[str, Any]  # the whole published network: `classes`, `measured_ms`, and its `sum_ms` by the table
    environment: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=dict)  # started, finished, command, samples

    @property
    def digest(self) -> str:
        """Return the checksum of all that costs are computed from."""
        content = self._content()
        decides = json.dumps({name: content[name] for name in _DECIDES}, sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()

    def fixed_ms(self, classes: int) -> float:
        """Return the ms of all that no choice decides: on the line through the two numbers of classes measured."""
        (few, least), (many_classes, most) = self.fixed
        return least + (most - least) * (classes - few) / (many_classes - few)

    def costs(self, plan: Sequence[BlockPlan], num_classes: int) -> Costs:
        """Return the latency of the candidates of a search over the blocks of `plan`, which is that of the model.

        Raises:
            UsageError: the table lacks one.
        """
        from mobilenext.models.block_search import find_candidates

        sides = block_sizes(plan, self.image_size)
        choices = []
        for place in find_candidates(plan):
            keys = [None if block is None else (sides[place.block], block) for block in place.plans]
            if lacking := [key for key in keys if key is not None and key not in self.candidates]:
                side, block = lacking[0]
                raise UsageError(
                    f"the cost table of {self.model} lacks {block} on maps of {side} x {side}; measure it again"
                )
            choices.append(np.array([0.0 if key is None else self.candidates[key] for key in keys]))
        return Costs("latency", self.fixed_ms(num_classes), tuple(choices), self.digest)

    def check(self, **expected: Any) -> None:
        """Check what the table was measured for.

        Args:
            **expected: of its fields model, identity_divisor, image_size, runtime, threads; None: any.

        Raises:
            UsageError: another one.
        """
        differences = [
            f"{name} {getattr(self, name)} (expected {value})"
            for name, value in expected.items()
            if value is not None and getattr(self, name) != value
        ]
        if differences:
            raise UsageError(
                f"the cost table was measured for {', '.join(differences)}; measure one for this search: "
                "mobilenext search --measure-costs RUNTIME --model NAME --image-size N -o FILE"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        rows = [
            {"size": side, "plan": dataclasses.asdict(plan), "ms": ms} for (side, plan), ms in self.candidates.items()
        ]
        return {
            "schema": SCHEMA,
            "cost": "latency",
            **{name: getattr(self, name) for name in _DECIDES[:5]},
            "fixed": [{"classes": classes, "ms": ms} for classes, ms in self.fixed],
            "candidates": rows,
            "published": dict(self.published),
            **self.origin,
            "environment": dict(self.environment),
        }


def table_of(values: Mapping[str, Any], where: str = "the cost table") -> CostTable:
    """Return the table of what `CostTable.to_dict` returned.

    Raises:
        DataError: a field is missing or out of bounds, or the numbers are not those of the digest.
    """
    check(values, _FIELDS, where, remedy=_REMEDY)
    try:
        if values["schema"] > SCHEMA:
            raise Unfit(f"schema is {values['schema']}; expected {SCHEMA}: a later version of this package wrote it")
        table = _table(values)
        if table.digest != values["digest"]:
            raise Unfit("its numbers are not those of its digest: somebody has changed them")
    except (Unfit, UsageError) as error:
        raise DataError(f"{where} cannot be used: {error}; {_REMEDY}") from error
    return table


def _table(values: Mapping[str, Any]) -> CostTable:
    if len(values["candidates"]) > MOST_CANDIDATES:
        raise Unfit(f"candidates has {len(values['candidates'])} entries; expected up to {MOST_CANDIDATES}")
    fields_of_plan = [entry.name for entry in dataclasses.fields(BlockPlan)]
    candidates = {}
    for place, row in enumerate(values["candidates"]):
        if sorted(row["plan"]) != sorted(fields_of_plan):
            raise Unfit(f"candidates[{place}].plan has other fields than {', '.join(fields_of_plan)}")
        candidates[row["size"], BlockPlan(**row["plan"])] = float(row["ms"])
    fixed = tuple((row["classes"], float(row["ms"])) for row in values["fixed"])
    if fixed[0][0] >= fixed[1][0]:
        raise Unfit("the numbers of classes of its fixed part do not grow")
    origin = {name: values[name] for name in ("samples", "started", "finished", "command") if name in values}
    names = ("model", "identity_divisor", "image_size", "runtime", "threads")
    return CostTable(
        **{name: values[name] for name in names},
        fixed=fixed,
        candidates=candidates,
        published=values["published"],
        environment=values["environment"],
        origin=origin,
    )


def read_cost_table(path: str | os.PathLike[str]) -> CostTable:
    """Read the file of a table.

    Raises:
        DataError: no such file, a larger one, or one that is no table.
    """
    content = read_bytes(Path(path), LARGEST_FILE, remedy=_REMEDY)
    values = parse(content, str(path), remedy=_REMEDY)
    return table_of(values, str(path))


def write_cost_table(path: str | os.PathLike[str], table: CostTable) -> None:
    """Write the file of a table, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomically(Path(path), f"{json.dumps(table.to_dict(), indent=2)}\n".encode())


def describe_additivity(measured_ms: float, sum_ms: float) -> str:
    """Return a sentence that compares a whole network with the sum of its parts."""
    return (
        f"measured {measured_ms:.3f} ms as a whole, {sum_ms:.3f} ms as the sum of its parts "
        f"({100 * (sum_ms / measured_ms - 1):+.1f} %)"
    )
