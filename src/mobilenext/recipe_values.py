"""Values of a recipe's fields, from JSON and from ``--set key=value``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.errors import UsageError
from mobilenext.json_files import Check, flag, many, number, optional, shown, text, whole

_LARGEST = 1e38  # number in a recipe: float32 holds it


def check_finite(values: Mapping[str, Any]) -> None:
    """Raise UsageError for a number that float32 cannot hold."""
    for name, value in values.items():
        numbers = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(number, int | float) and not abs(number) <= _LARGEST for number in numbers):
            raise UsageError(f"{name} is {shown(value)}; expected a finite number up to {_LARGEST:g}")


def check_of(kind: str) -> Check:
    """Return the check of a value from JSON for a field's type, which `kind` is the name of."""
    one = text() if "str" in kind else flag() if "bool" in kind else whole() if "int" in kind else number()
    if "tuple" in kind:
        return many(one, None if "..." in kind else 2)
    return optional(one) if "None" in kind else one


def parsed(name: str, text: str, kind: str) -> Any:
    """Return `text` as a value of the field's type, which `kind` is the name of."""
    try:
        if "None" in kind and text.lower() == "none":
            return None
        if "tuple" in kind:
            numbers = tuple(float(number) for number in text.split(",") if number.strip() or "..." not in kind)
            if "..." not in kind and len(numbers) != 2:
                raise ValueError(text)
            return numbers
        if "bool" in kind:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if "int" in kind:
            return int(text)
        return float(text) if "float" in kind else text
    except (ValueError, KeyError) as error:
        words = {
            "...": "numbers with commas", "tuple": "two numbers with a comma", "bool": "true or false",
            "int": "a whole number",
        }  # fmt: skip
        expected = next((word for part, word in words.items() if part in kind), "a number")
        raise UsageError(f"--set {name}={text}: expected {expected}") from error
