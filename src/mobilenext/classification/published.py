"""What the paper reports of the networks, labeled as such, beside what was measured here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobilenext.classification.answers import Answers
from mobilenext.drawing.cells import fraction_text
from mobilenext.drawing.chart import TIP, Chart, axis, chart_spec, colored, shaped
from mobilenext.models.cards import FAMILIES, MODELS, PAPERS
from mobilenext.statistics import percent_text

MEASURED = "measured here"


def published_top1(network: str) -> float | None:
    """Return the top-1 on ImageNet that the paper reports for a network, in percent."""
    card = MODELS.get(network)
    return card.paper_top1_percent if card else None


def accuracy_mult_adds(evaluations: Sequence[Answers], bench: bool) -> Chart | None:
    """Return a chart of the paper's points, and of those measured here with 1,000 classes.

    Only beside networks of 1,000 classes or beside a bench: next to ten digits the points mislead.
    """
    if not (bench or any(run.result["num_classes"] == 1000 for run in evaluations)):
        return None
    values: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for card in MODELS.values():
        if card.paper_top1_percent is not None:
            values.append({"run": _of_paper(card.family), "millions": card.mult_adds / 1e6})
            values[-1] |= {"top1": card.paper_top1_percent, "name": card.name}
            values[-1]["tip"] = (
                f"{card.name}: {card.paper_top1_percent} % on ImageNet as the paper reports, not measured"
            )
            rows.append(
                [card.name, f"{card.mult_adds / 1e6:.1f}", f"{card.paper_top1_percent}", "the paper's, ImageNet"]
            )
    measured = [run for run in evaluations if run.result["model"] in MODELS and run.result["num_classes"] == 1000]
    for run in measured:
        result, millions = run.result, MODELS[run.result["model"]].mult_adds / 1e6
        counts = fraction_text(result["correct_top1"], result["images"])
        values.append({"run": MEASURED, "millions": millions, "top1": result["top1_percent"], "name": run.name})
        folder = result["data"].get("folder")
        values[-1]["tip"] = f"{run.name}: {percent_text(result['top1_percent'])} ({counts} of {folder})"
        rows.append([run.name, f"{millions:.1f}", f"{result['top1_percent']:.3f}", f"{MEASURED}, {counts}"])
    kinds = [*(_of_paper(family) for family in PAPERS), *([MEASURED] if measured else [])]
    description = "Top-1 on ImageNet against mult-adds: what the paper reports" + (
        ", and what was measured" * bool(measured)
    )
    spec = _spec(description, values, kinds)
    head = ["network", "mult-adds, M", "top-1, %", "whose"]
    return Chart("Accuracy against mult-adds", description, spec, head, rows)


def _of_paper(family: str) -> str:
    return f"{FAMILIES[family]}, the paper's"


def _spec(description: str, values: Sequence[dict[str, Any]], kinds: Sequence[str]) -> dict[str, Any]:
    x, y = axis("millions", "mult-adds at 224 pixels, millions"), axis("top1", "top-1, %")
    look = {"color": colored(kinds), "shape": shaped(kinds), "tooltip": TIP}
    return chart_spec(
        description,
        300,
        data={"values": values},
        layer=[
            {
                "mark": {"type": "line", "strokeDash": [3, 3], "opacity": 0.5},
                "encoding": {"x": x, "y": y, "color": colored(kinds)},
                "transform": [{"filter": f"datum.run != '{MEASURED}'"}],
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": x, "y": y, **look},
            },
        ],
    )
