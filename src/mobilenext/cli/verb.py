"""A verb of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):  # dataclasses would import inspect, which takes its time
    """A verb: its flags, what it does with their values, and commands that show how it is used."""

    name: str
    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit code
    examples: tuple[str, ...]  # what stands behind `mobilenext`
