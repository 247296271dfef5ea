"""What the `args`, `config` or `hyper_parameters` in another trainer's checkpoint say about its images.

The values are anything that somebody's program stored. Only those that a `Preprocessing` may have are taken; every
other one is named and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.weights.foreign.refusal import shown

# The names that trainers use, those of the evaluation before those of the training.
_SIZES = (
    ("val_crop_size", "eval_crop_size", "test_crop_size", "val_size", "test_size"),
    ("input_size", "img_size", "image_size", "crop_size", "imgsz", "input_resolution"),
)
_SHORT_SIDES = (("val_resize_size", "eval_resize_size", "test_resize_size", "resize_size", "resize_short"),)
_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "image_size": _SIZES,
    "crop_pct": (("crop_pct", "test_crop_pct", "eval_crop_pct", "crop_ratio"),),
    "interpolation": (("val_interpolation", "test_interpolation", "eval_interpolation"), ("interpolation",)),
    "mean": (("mean", "image_mean", "img_mean", "pixel_mean", "norm_mean"),),
    "std": (("std", "image_std", "img_std", "pixel_std", "norm_std"),),
    "resize_size": _SHORT_SIDES,
}
_DEEPEST = 6
_MOST_RECORDS = 10_000
_ELSEWHERE = ("optimizer", "optim", "scheduler", "callbacks", "loops")  # what they call `mean` is not of images


def recorded_preprocessing(content: Any) -> tuple[dict[str, Any], list[str]]:
    """Return fields of `Preprocessing` that the plain tree of a checkpoint records, and a sentence on each.

    A value that cannot be one (text for a size, NaN, a mean on a scale of 0 to 255), or of which the file has two, is
    not taken, and a sentence says so. None and "", which argument parsers store for what was not given, say nothing.
    """
    records = list(_records(content, "", 0))[:_MOST_RECORDS]
    fields: dict[str, Any] = {}
    notes: list[str] = []
    unusable: set[str] = set()
    for field, alternatives in _NAMES.items():
        for names in alternatives:
            values = {
                f"{path}/{name}" if path else name: record[name]
                for path, record in records
                for name in names
                if name in record and not _is_unset(record[name])
            }
            if values and _take(field, values, fields, notes):
                break
            if values:
                unusable.add(field)
    for name, other in (("mean", "std"), ("std", "mean")):
        if name in fields and other in unusable:  # half of a pair normalizes wrongly
            del fields[name]
            notes.append(f"{name} is not taken without {other}")
    short_side = fields.pop("resize_size", None)
    if short_side is not None and "crop_pct" not in fields and "image_size" in fields:
        if short_side >= fields["image_size"]:
            fields["crop_pct"] = fields["image_size"] / short_side
        else:
            notes.append(f"the recorded short side of {short_side} is below the image size: not taken")
    return fields, notes


def _take(field: str, values: Mapping[str, Any], fields: dict[str, Any], notes: list[str]) -> bool:
    """Take the one value that the file records for `field`; whether there is one."""
    usable = {}
    for where, value in values.items():
        read = _value(field, value)
        if read is None:
            notes.append(f"{where} is {_short(value)} in the checkpoint, which is no {field}: not taken")
        else:
            usable[where] = read
    if not usable:
        return False
    if len(set(usable.values())) > 1:
        listed = " and ".join(f"{value} ({where})" for where, value in [*usable.items()][:4])
        notes.append(f"the checkpoint records several values of {field}, {listed}: none is taken")
        return True
    (where, fields[field]), *_ = usable.items()
    notes.append(f"{field} {fields[field]} from the checkpoint ({where})")
    return True


def _value(field: str, value: Any) -> Any:
    """Return `value` as this field of a `Preprocessing`, or None."""
    if field in ("image_size", "resize_size"):
        if isinstance(value, Mapping):  # as Hugging Face's processors write it
            value = tuple(value.values())
        sides = value[-2:] if isinstance(value, list | tuple) and 1 <= len(value) <= 3 else (value,)  # [C, H, W]
        if any(type(side) is not int for side in sides) or len(set(sides)) != 1:
            return None
        return _checked("image_size", sides[0])
    if field in ("mean", "std"):
        if not isinstance(value, list | tuple) or not all(
            type(part) in (int, float) and 0 <= part <= 1 for part in value
        ):
            return None
        return _checked(field, tuple(value))
    if field == "interpolation":
        return _checked(field, value.lower()) if isinstance(value, str) else None
    return _checked(field, value) if type(value) in (int, float) else None


def _checked(field: str, value: Any) -> Any:
    try:
        return getattr(Preprocessing(**{field: value}), field)
    except (UsageError, OverflowError):
        return None


def _records(tree: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every dict in the tree, with its key path."""
    if not isinstance(tree, dict) or depth > _DEEPEST:
        return
    yield path, tree
    for key, value in tree.items():
        if isinstance(key, str) and isinstance(value, dict) and not any(word in key.lower() for word in _ELSEWHERE):
            yield from _records(value, f"{path}/{_short(key)}" if path else _short(key), depth + 1)


def _is_unset(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value) or not isinstance(value, _PLAIN)


_PLAIN = (bool, int, float, str, bytes, list, tuple, dict)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(part) for part in value[:4])}{', ...' if len(value) > 4 else ''}]"
    text = shown(value)
    return text[1:-1] if isinstance(value, str) and text.isascii() and value.isidentifier() else text
