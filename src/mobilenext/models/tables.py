"""The models as a table."""

from __future__ import annotations

from mobilenext.drawing.markdown import table
from mobilenext.models.cards import MODELS


def models_table() -> str:
    """Return all models with their sizes, the paper's top-1, and the weights that can be had."""
    rows = []
    for card in MODELS.values():
        for index, weights in enumerate(card.weights or (None,)):
            first = index == 0
            published = weights.published if weights else None
            rows.append(
                [
                    card.name if first else "",
                    f"{card.parameters / 1e6:.2f} M" if first else "",
                    f"{card.mult_adds / 1e6:.1f} M" if first else "",
                    ("-" if card.paper_top1_percent is None else f"{card.paper_top1_percent:g} %") if first else "",
                    "none published" if weights is None else weights.tag,
                    f"{published.top1_percent:.3f} % ({published.dataset})" if published else "-",
                    weights.licence if weights else "-",
                ]
            )
    return table(["model", "parameters", "mult-adds", "paper top-1", "weights", "their top-1", "licence"], rows)
