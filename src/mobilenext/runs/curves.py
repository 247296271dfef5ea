"""The curves of training runs as a picture: loss, validation accuracy and learning rate."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.errors import UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.runs.comparison import grouped, task_of
from mobilenext.runs.training_run import KINDS, TrainingRun

STYLES = dict(zip(KINDS, ("-", "--"), strict=True))
# Okabe and Ito's palette without the yellow, too pale on white; groups beyond the seventh get markers as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def write_curves(runs: Sequence[TrainingRun], path: Path) -> None:
    """Training loss, validation top-1 and learning rate against the epoch, 1600 px wide, as .png or .svg.

    Runs that differ only in the seed share a colour: thin lines, and a thick one for their mean.

    Raises:
        MissingDependency: matplotlib is not installed.
        UsageError: another kind of picture.
        OutputError: it cannot be written.
    """
    require(["matplotlib"], "bench", "the picture of the curves")
    from matplotlib.figure import Figure

    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"the picture is called {path.name!r}; expected a name that ends in .png or .svg")
    groups = grouped(runs)
    labels = [f"{label}, {_seeds(members)}" for label, members in groups.items()]
    columns = max(1, min(4, 190 // (8 + max(map(len, labels)))))
    figure = Figure(figsize=(16, 5.9 + 0.25 * (len(labels) // columns)), dpi=100, layout="constrained")
    loss, validation, rate = panels = figure.subplots(1, 3)
    for axes, title in zip(
        panels, ("training loss", f"validation {task_of(runs).metric.axis}", "learning rate"), strict=True
    ):
        axes.set_title(title, fontsize=13)
        axes.set_xlabel("epoch", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4)
    rates = [dict(_points(members[0], "lr")) for members in groups.values()]
    for place, members in enumerate(groups.values()):
        look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": "o" if place >= len(COLOURS) else ""}
        look |= {"linewidth": 2.4 if len(groups) < 6 else 1.7, "markevery": (0.012 * place, 0.15)}
        for run in members:
            loss.plot(*_xy(dict(_points(run, "loss"))), color=look["color"], linewidth=0.5, alpha=0.3, zorder=1)
        # The mean of an epoch belongs to its middle; an evaluation comes at its end.
        _seed_lines(loss, [{row["epoch"] - 0.5: row["train_loss"] for row in run.epochs} for run in members], "-", look)
        for kind, style in STYLES.items():
            curves = [
                {at: run.measured(counts).value for at, counts in run.validations(kind).items()} for run in members
            ]
            _seed_lines(validation, curves, style, look)
        # Equal learning rates lie on each other: the longest is drawn whole, the others as their share of dashes on it.
        own = rates[place].items()
        sharing = [other for other, each in enumerate(rates) if own <= each.items() or each.items() <= own]
        whole = place == max(sharing, key=lambda other: len(rates[other]))
        dashes = "-" if whole else (-8 * sharing.index(place), (8, 8 * len(sharing) - 8))
        rate.plot(*_xy(rates[place]), linestyle=dashes, zorder=2 if whole else 3, **look)
        loss.plot([], [], label=labels[place], **look)
    keys = {"raw weights": ("-", 2.4), "EMA weights": ("--", 2.4), "thin: single steps and seeds": ("-", 0.6)}
    for label, (style, width) in keys.items():
        loss.plot([], [], style, color="grey", linewidth=width, label=label)
    figure.legend(loc="outside lower center", ncols=columns, fontsize=11, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:])
    write_atomically(path, picture.getvalue())


def _seeds(members: Sequence[TrainingRun]) -> str:
    seeds = ", ".join(str(run.config["seed"]) for run in members)
    unfinished = sum(run.result is None for run in members)
    of = f" ({unfinished} unfinished)" if len(members) > 1 else " (unfinished)"
    return f"seed{'s' * (len(members) > 1)} {seeds}{of * (unfinished > 0)}"


def _points(run: TrainingRun, field: str) -> list[tuple[float, float]]:
    """A field of the step rows against the epoch, in fractions of it."""
    return [(row["global_step"] / run.config["steps_per_epoch"], row[field]) for row in run.steps]


def _xy(curve: Mapping[float, float]) -> tuple[list[float], list[float]]:
    return list(curve), list(curve.values())


def _seed_lines(axes: Any, curves: Sequence[Mapping[float, float]], style: str, look: Mapping[str, Any]) -> None:
    """A thin line for each seed, and a thick one for their mean where all of them have a value."""
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*_xy(curve), style, color=look["color"], linewidth=0.8, alpha=0.7)
    shared = [at for at in curves[0] if all(at in curve for curve in curves)]
    mean = {at: statistics.mean(curve[at] for curve in curves) for at in shared}
    alone = {"marker": "o", "markevery": None} if len(mean) == 1 else {}  # there is no line through one point
    axes.plot(*_xy(mean), style, **{**look, **alone})
