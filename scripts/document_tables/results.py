"""The results that tables and pictures of the documents are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilenext.json_files import parse, read_bytes

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Any:
    """Return the content of a file of results/."""
    path = ROOT / "results" / name
    return parse(read_bytes(path), str(path))
