"""``bench.json``, as its readers rely on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.json_files import many, named, number, optional, read_json, record, text, whole

BENCH = "bench.json"
_MS = number(0, 1e9)
_ROW = {
    **dict.fromkeys(("network", "runtime", "engine", "precision"), text()),
    **dict.fromkeys(("identity_divisor", "image_size", "threads", "batch_size"), whole(0)),
    **dict.fromkeys(("median_ms", "p10_ms", "p90_ms", "ms_per_image", "start_up_ms"), _MS),
    "images_per_second": number(0),
    "mult_adds": optional(whole(0)),
    "post_processing": optional(text()),  # that is timed with the network
    "post_processing_ms": optional(_MS),
    "amounts_per_image": optional(named(number(0))),
    **dict.fromkeys(("times_compute_floor", "peak_memory_mib"), optional(number(0, 1e12))),
}
_BENCH = {
    **dict.fromkeys(("configuration", "environment"), record({})),
    "rows": many(record(_ROW)),
    "skipped": optional(many(record(dict.fromkeys(("network", "runtime", "reason"), text())))),
}


@dataclass(frozen=True)
class Bench:
    """One result of ``mobilenext bench``."""

    folder: Path
    name: str
    result: dict[str, Any]


def read_bench(folder: Path, name: str) -> Bench:
    """Read the result of a bench.

    Raises:
        DataError: there is none, or it is damaged.
    """
    return Bench(folder, name, read_json(folder / BENCH, _BENCH, remedy="restore it, or run the bench again"))
