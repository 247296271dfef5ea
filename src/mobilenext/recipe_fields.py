"""The fields of a recipe as they stand in files and in ``--set``: flat, those of its sub-records beside its own."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from mobilenext.recipe_values import check_finite

SUBRECORDS = ("objective", "augmentation", "preprocessing")
# Of the preprocessing a recipe has these fields; mean and std belong to the weights. Both that and the augmentation
# have an image size, which is one field of the recipe, and an interpolation, which are two.
_PREPROCESSING = {
    "image_size": "image_size", "crop_pct": "crop_pct", "interpolation": "eval_interpolation", "fit": "fit",
}  # fmt: skip

T = TypeVar("T")


def later(default: T) -> T:
    """Return the default of a field that was added in a later version.

    It is not stored at its default, so that a run's record and its digest stay those of the version that began the run.
    """
    field: Any = dataclasses.field(default=default, metadata={"later": True})
    return typing.cast(T, field)


class FlatField(NamedTuple):
    """Where a flat field stands."""

    part: str  # a sub-record; "" for the recipe itself
    name: str  # there
    type: str
    default: Any
    later: bool

    def value(self, recipe: Any) -> Any:
        return getattr(getattr(recipe, self.part) if self.part else recipe, self.name)

    def is_unset(self, recipe: Any) -> bool:
        return self.later and self.value(recipe) == self.default


def flat_fields(cls: type[Any]) -> Mapping[str, list[FlatField]]:
    """Return the flat fields of a task's recipes in their order; an image size stands in two sub-records."""
    key: Any = cls
    return _flat_fields(key)


@functools.cache  # resolving the types takes 20 ms, and each recipe asks several times
def _flat_fields(cls: Any) -> Mapping[str, list[FlatField]]:
    types = typing.get_type_hints(cls)
    fields: dict[str, list[FlatField]] = {}
    for field in dataclasses.fields(cls):
        part = field.name if field.name in SUBRECORDS else ""
        for inner in dataclasses.fields(types[part]) if part else (field,):
            if part == "preprocessing" and inner.name not in _PREPROCESSING:
                continue
            name = _PREPROCESSING[inner.name] if part == "preprocessing" else inner.name
            kind = str((typing.get_type_hints(types[part]) if part else types)[inner.name])
            place = FlatField(part, inner.name, kind, inner.default, bool(inner.metadata.get("later")))
            fields.setdefault(name, []).append(place)
    return fields


def nested(cls: type[Any], values: Mapping[str, Any], records: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return flat values as arguments of the record: those of a sub-record as that, new or changed from `records`."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    check_finite(values)
    arguments: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {part: {} for part in SUBRECORDS}
    fields, types = flat_fields(cls), typing.get_type_hints(cls)
    for name, value in values.items():
        for place in fields.get(name) or [FlatField("", name, "", None, False)]:  # dataclasses refuse other names
            (inner[place.part] if place.part else arguments)[place.name] = value
    for part, changes in inner.items():
        if records is None:
            arguments[part] = types[part](**changes)
        elif changes:
            arguments[part] = dataclasses.replace(records[part], **changes)
    return arguments
