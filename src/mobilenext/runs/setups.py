"""What decides the results of a run: how two setups differ, and that all processes of a run have the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mobilenext.errors import UsageError
from mobilenext.machine.ranks import Ranks


def changes(before: Any, now: Mapping[str, Any], places: tuple[str, str] = ("there", "now")) -> str:
    """Return a line for each field of the setup that differs."""
    before = before if isinstance(before, dict) else {}
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    first, second = places
    return "\n".join(
        f"  {name}: {shortened(before.get(name))} {first}, {shortened(now.get(name))} {second}" for name in names
    )


def shortened(value: Any, longest: int = 200) -> str:
    """Return a JSON value as Python writes it; a long list or record by its size, and a digest that tells it apart."""
    if not isinstance(value, list | tuple | dict) or len(repr(value)) <= longest:
        return repr(value)
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    return f"{len(value)} {'entry' if len(value) == 1 else 'entries'} (sha256 {digest[:8]})"


def require_same(ranks: Ranks, setup: Mapping[str, Any]) -> None:
    """Refuse a distributed run whose processes would not do the same: machines may have other data, or other versions.

    Raises:
        UsageError: in all processes, with what differs.
    """
    if ranks.world == 1:
        return
    setups = [json.loads(content) for content in ranks.gather(json.dumps(setup).encode())]
    for number, other in enumerate(setups):
        if other != setups[0]:
            difference = changes(setups[0], other, ("in process 0", f"in process {number}"))
            raise UsageError(
                f"the {ranks.world} processes of this run would not do the same:\n{difference}\n"
                "Give all of them the same data, weights and options."
            )
