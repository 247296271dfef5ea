"""The models as a table."""

from __future__ import annotations

from mobilenext.drawing.markdown import table
from mobilenext.models.cards import CELLS, MODELS, VARIANT, list_models, paper_models
from mobilenext.models.published import Published, PublishedDetection


def models_table() -> str:
    """Return the papers' classifiers with their sizes, the paper's top-1, and the weights that can be had."""
    rows = []
    for card in (MODELS[name] for name in paper_models()):
        for index, weights in enumerate(card.weights or (None,)):
            first = index == 0
            published = weights.published if weights and isinstance(weights.published, Published) else None
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


def variants_table() -> str:
    """Return the variants of MobileNeXt's block with their sizes."""
    cards = [card for card in MODELS.values() if card.family == VARIANT]
    rows = [[card.name, f"{card.parameters:,}", f"{card.mult_adds / 1e6:.1f} M"] for card in cards]
    return table(["variant of the block", "parameters", "mult-adds"], rows)


def cells_table() -> str:
    """Return the networks of cells with their sizes, and the error that their authors print."""
    cards = [card for card in MODELS.values() if card.family == CELLS]
    rows = [
        [card.name, f"{card.parameters:,}", f"{card.mult_adds / 1e6:.1f} M", card.counted_for, card.published_error]
        for card in cards
    ]
    return table(["network of cells", "parameters", "mult-adds", "counted for", "published error"], rows)


def detectors_table() -> str:
    """Return all detectors with their sizes, the paper's average precision, and the weights that can be had."""
    rows = []
    for card in (MODELS[name] for name in list_models("detection")):
        for index, weights in enumerate(card.weights or (None,)):
            published = weights.published if weights and isinstance(weights.published, PublishedDetection) else None
            size = [card.name, f"{card.parameters / 1e6:.2f} M", f"{card.mult_adds / 1e6:.1f} M"]
            paper = [_percent(card.paper_voc_map_percent), _percent(card.paper_coco_ap_percent)]
            rows.append(
                [
                    *([*size, *paper] if index == 0 else [""] * 5),
                    "none published" if weights is None else weights.tag,
                    f"{published.voc_map_percent:.1f} % ({published.dataset})" if published else "-",
                    weights.licence if weights else "-",
                ]
            )
    head = ["model", "parameters", "mult-adds", "paper VOC07 mAP", "paper COCO AP", "weights", "their mAP", "licence"]
    return table(head, rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:g} %"
