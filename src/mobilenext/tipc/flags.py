"""The flags that Paddle's test drivers write, as values.

Every form means the same, in any order, and the last of several counts:

    --batch-size=4      --batch_size 4      batch_size=4      -o Global.batch_size=4      Global.batch_size=4

Keys ignore case, and do not tell ``-`` from ``_``. ``null`` stands for a value or key that is not there, as in the
drivers' configurations.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobilenext.errors import UsageError, nearest

log = logging.getLogger(__name__)
NULL = "null"


@dataclass(frozen=True)
class Option:
    """One value of a verb, and the keys under which drivers write it."""

    name: str
    keys: tuple[str, ...]  # the first is the one that messages show
    read: Callable[[str], Any] = str
    repeated: bool = False  # every mention counts, not the last


def boolean(text: str) -> bool:
    """``True`` or ``False``, in any case."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise ValueError("True or False")
    return known[text.lower()]


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or not int(text):
        raise ValueError("a whole number from 1 up")
    return int(text)


def number(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise ValueError("a whole number from 0 up")
    return int(text)


def points(text: str) -> float:
    """A number from 0 up."""
    value = float(text) if text.replace(".", "", 1).replace("e-", "", 1).isdecimal() else -1.0
    if value < 0:
        raise ValueError("a number from 0 up")
    return value


def parse(arguments: Sequence[str], options: Sequence[Option], without_effect: Mapping[str, str]) -> dict[str, Any]:
    """Return the values by the names of the options.

    Args:
        arguments: the words behind the verb.
        options: the options of the verb.
        without_effect: keys that are known and change nothing, and why; the log repeats it.

    Raises:
        UsageError: an unknown key, a key without a value, or an invalid value.
    """
    known = {_normal(key): option for option in options for key in option.keys}
    ignored = {_normal(key): reason for key, reason in without_effect.items()}
    values: dict[str, Any] = {}
    for key, text in _pairs(arguments):
        if NULL in (_normal(key), text):
            continue
        option = known.get(_normal(key))
        if option is None:
            if _normal(key) in ignored:
                log.info("%s=%s has no effect: %s", key, text, ignored[_normal(key)])
                continue
            raise UsageError(
                f"unknown key {key!r}{nearest(_normal(key), [*known, *ignored])}\nknown: "
                + ", ".join(option.keys[0] for option in options)
            )
        try:
            value = option.read(text)
        except ValueError as error:
            raise UsageError(f"{key} is {text!r}; expected {error}") from error
        if option.repeated:
            values.setdefault(option.name, []).append(value)
        else:
            values[option.name] = value
    return values


def _normal(key: str) -> str:
    return key.lstrip("-").lower().replace("-", "_")


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Split the words into keys and values, in order."""
    pairs = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "--override"):
            if not rest:
                raise UsageError("-o is the last word; expected KEY=VALUE behind it")
            word = rest.pop(0)
            if "=" not in word:
                raise UsageError(f"-o {word}: expected KEY=VALUE")
        key, equals, text = word.partition("=")
        if not equals:
            if not word.startswith("--") or not rest or rest[0].startswith("--"):
                expected = "a value behind it" if word.startswith("--") else "--key=value, -o key=value or key=value"
                raise UsageError(f"{word!r}: expected {expected}")
            text = rest.pop(0)
        if not text:
            raise UsageError(f"{key} has no value; leave it out, or write {key}={NULL}")
        pairs.append((key, text))
    return pairs
