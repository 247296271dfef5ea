"""How networks and runtimes are called in tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.models.cards import MODELS
from mobilenext.runs.bench import Bench
from mobilenext.runtime.table import runtime_name
from mobilenext.task import Task
from mobilenext.tasks import find_task


def runtime_of(row: Mapping[str, Any]) -> str:
    """Return the name of the runtime that a row or a result was measured with."""
    return runtime_name(row["runtime"], row.get("engine"), row.get("precision"))


def network_name(row: Mapping[str, Any]) -> str:
    """Return the network, with its identity divisor and with the post-processing that was timed, if there is any."""
    divisor = f", divisor {row['identity_divisor']}" if row["identity_divisor"] != 1 else ""
    size = f", {row['image_size']} px" if row["image_size"] != 224 else ""
    follows = f" + {row['post_processing']}" if row.get("post_processing") else ""
    return f"{row['network']}{divisor}{size}{follows}"


def amounts_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of what the time of post-processing depends on, in some rows of a bench."""
    return list(dict.fromkeys(name for row in rows for name in row.get("amounts_per_image") or ()))


def published_of(row: Mapping[str, Any], task: Task) -> float | None:
    """Return the published metric of a network that is run as its authors ran it; None for another."""
    comparable = row["identity_divisor"] == 1 and row["image_size"] == 224 and row["precision"] in ("", "fp32")
    return task.presentation.published(row["network"]) if comparable else None


def task_of_bench(bench: Bench) -> Task:
    """Return the task that the networks of a bench are made for; classification for those of several, or unknown."""
    cards = [MODELS.get(row["network"]) for row in bench.result["rows"]]
    names = {card.task if card else None for card in cards}
    return find_task(names.pop() if len(names) == 1 else None)
