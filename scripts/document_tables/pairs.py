"""Tables of the pairs of training runs on tiny20 (scripts/tiny20_pairs.py), also while some are not finished."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from document_tables.results import ROOT, load
from mobilenext.drawing.markdown import table
from mobilenext.models import MODELS
from mobilenext.models.cards import VARIANT

FILE = "tiny20_pairs.json"
KINDS = {"raw": "last", "ema": "average"}  # of the weights


def pairs() -> str:
    """Return the accuracy of both networks over seeds, and the interval of their paired difference."""
    return _table(lambda model: MODELS[model].family != VARIANT)


def variant_runs() -> str:
    """Return the accuracy of each variant, and its difference from MobileNeXt of the same seeds."""
    return _table(lambda model: MODELS[model].family == VARIANT)


def _table(wanted: Any) -> str:
    if not (ROOT / "results" / FILE).is_file():
        return "No run is finished (n = 0): `python scripts/tiny20_pairs.py TINY20` makes them."
    content = load(FILE)
    rows = [
        [
            model,
            KINDS[kind],
            str(len(runs)),
            f"{runs[0]['parameters']:,}",
            f"{sum(top1) / len(top1):.2f}",
            ", ".join(f"{value:.1f}" for value in top1),
            _difference(content, model, kind),
        ]
        for model, kind, runs in _groups(content, wanted)
        for top1 in [[100 * run[kind]["correct_top1"] / run[kind]["images"] for run in runs]]
    ]
    images = content["runs"][0]["raw"]["images"]
    note = (
        f"{len(content['runs'])} of {content['runs_planned']} runs are finished, {content['recipe']['epochs']} epochs "
        f"each, {images:,} validation images. n: runs, one a seed. Points: top-1 of mobilenext_x0_35 minus that of the "
        "network, over the seeds that both have; in brackets the 95 % interval (Student, paired) and their number."
    )
    heading = ["network", "weights", "n", "parameters", "mean top-1, %", "of each seed", "points below MobileNeXt"]
    return table(heading, rows) + "\n\n" + note


def _groups(content: Any, wanted: Any) -> Iterator[tuple[str, str, list[Any]]]:
    """Return the runs of each wanted model, for both kinds of weights."""
    for model in dict.fromkeys(run["model"] for run in content["runs"]):
        if wanted(model):
            for kind in KINDS:
                yield model, kind, [run for run in content["runs"] if run["model"] == model]


def _difference(content: Any, model: str, kind: str) -> str:
    for pair in content["pairs"]:
        if (pair["second"], pair["weights"]) == (model, kind) and pair["n"]:
            interval = pair["interval"]
            shown = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
            return f"{pair['mean_points']:+.2f} ({shown}; n {pair['n']})"
    return "-"
