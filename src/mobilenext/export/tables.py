"""How close an export is to Paddle, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.drawing.markdown import table


def parity_lines(parity: Mapping[str, Any]) -> list[str]:
    """Return how close an export is to Paddle."""
    compared = {f"{parity['folded_batch_norms']} batch norms folded, in Paddle": parity["folding"]} | parity["runtimes"]
    agreement = [field for field in parity["folding"] if not field.startswith("largest_difference")]  # of the task
    rows = [
        [
            name,
            f"{row['largest_difference']:.1e}",
            f"{row['largest_difference_of_std']:.1e}",
            *(_of_all(row[field], parity["images"]) for field in agreement),
        ]
        for name, row in compared.items()
    ]
    heading = ["against Paddle on real images", "largest difference of an output", "of its std"]
    heading += [field.replace("_", " ") for field in agreement]
    lines = [table(heading, rows)]
    for runtime, fields in parity.get("post_processing", {}).items():
        counts = [f"{field.replace('_', ' ')}: {_of_all(value, parity['images'])}" for field, value in fields.items()]
        lines.append(f"with post-processing, by {runtime}: {', '.join(counts)}")
    return lines


def _of_all(value: Any, images: int) -> str:
    """Return a count with what it is of: of all in [count, all], or of the images."""
    count, total = value if isinstance(value, list) else (value, images)
    return f"{count} of {total}"
