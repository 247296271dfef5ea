"""``python test_tipc/run.py`` as a program of `warm`: its ``main`` runs that file of the working folder."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path

from mobilenext.machine.command import guarded


def main() -> int:
    """Run the chain that the words of this process ask for; return its exit code."""
    sys.path.insert(0, str(Path("test_tipc").absolute()))  # as Python does for a script
    return guarded(partial(importlib.import_module("run").run, None))
