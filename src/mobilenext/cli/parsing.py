"""The parser of the command line, and the readers of its values."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any

TRIPLES = ("--mean", "--std")  # options of three numbers
NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """Reads the numbers of --mean and --std with spaces or commas between them, or one at a time."""

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        return super().parse_known_args(_split_triples(sys.argv[1:] if args is None else args), namespace)


def numbers(text: str) -> tuple[int, ...]:
    """Read ``1,2`` as (1, 2)."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers with commas between them, such as 1,2")
    return tuple(int(part) for part in text.split(","))


def _split_triples(arguments: Iterable[str]) -> list[str]:
    """Write ``--mean 1,2,3`` as ``--mean 1 2 3``."""
    words: list[str] = []
    current, missing = "", 0  # the option whose numbers are read, and how many are still to come
    for argument in arguments:
        option, has_value, value = argument.partition("=")
        if option in TRIPLES:
            if not (option == current and missing):
                words.append(option)
                current, missing = option, 3
            if not has_value:
                continue
        else:
            value = argument
        parts = [part for part in re.split(r"[,\s]+", value) if part]
        if missing > 0 and parts and all(NUMBER.fullmatch(part) for part in parts):
            words += parts
            missing -= len(parts)
        else:
            words.append(value)
            missing = 0
    return words
