"""How networks and runtimes are called in tables and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def runtime_name(row: Mapping[str, Any]) -> str:
    """Return the runtime with what is special about it in parentheses."""
    inside = [str(row[key]) for key in ("engine", "precision") if row.get(key) not in (None, "", "eager", "fp32")]
    return f"{row['runtime']} ({', '.join(inside)})" if inside else str(row["runtime"])


def network_name(row: Mapping[str, Any]) -> str:
    """Return the network, with its identity divisor where there is one."""
    divisor = f", divisor {row['identity_divisor']}" if row["identity_divisor"] != 1 else ""
    size = f", {row['image_size']} px" if row["image_size"] != 224 else ""
    return f"{row['network']}{divisor}{size}"
