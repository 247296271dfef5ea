"""How close an export is to Paddle, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.drawing.markdown import table


def parity_lines(parity: Mapping[str, Any]) -> list[str]:
    """Return how close an export is to Paddle."""
    compared = {f"{parity['folded_batch_norms']} batch norms folded, in Paddle": parity["folding"]} | parity["runtimes"]
    rows = [
        [
            name,
            f"{row['largest_difference']:.1e}",
            f"{row['largest_difference_of_std']:.1e}",
            f"{row['equal_top1']} of {parity['images']}",
        ]
        for name, row in compared.items()
    ]
    heading = ["against Paddle on real images", "largest logit difference", "of the logits' std", "equal top-1"]
    return [table(heading, rows)]
