"""Tables of the experiments of scripts/search_experiments.py, also while some of their runs are not finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from document_tables.results import ROOT, load
from mobilenext.drawing.markdown import table
from mobilenext.models import MODELS
from mobilenext.models.cards import VARIANT

COMMAND = "python scripts/search_experiments.py"
KINDS = {"raw": "last", "ema": "average"}  # of the weights


def pairs() -> str:
    """Return the accuracy of both networks over seeds, and the interval of their paired difference."""
    return _pairs(lambda model: MODELS[model].family != VARIANT)


def variant_runs() -> str:
    """Return the accuracy of each variant, and its difference from MobileNeXt of the same seeds."""
    return _pairs(lambda model: MODELS[model].family == VARIANT)


def swap() -> str:
    """Return parameters and accuracy of the published cells and of those with another block."""
    content = _read("search_swap.json")
    if content is None:
        return _nothing("swap")
    gains = {row["first"]: row for row in content["differences"]}
    rows = []
    for arm, runs in _grouped(content["runs"], "arm"):
        top1 = [run["raw"]["top1_percent"] for run in runs]
        final = [f"{run['final_parameters'] / 1e6:.3f} M" for run in runs[:1]]
        rows.append(
            [arm, *final, f"{runs[0]['parameters']:,}", str(len(runs)), *_mean(top1), _interval(gains.get(arm))]
        )
    heading = ["cells", "at 36/20", "trained", "n", "mean top-1, %", "of each seed", "points above darts_v2"]
    configuration = content["configuration"]
    note = (
        f"{_count(content)}. Networks of {configuration['channels']} channels and {configuration['cells']} cells, "
        f"{configuration['train_images']:,} images of {configuration['image_size']} pixels, "
        f"{configuration['epochs']} epochs, {content['runs'][0]['raw']['images']:,} validation images. At 36/20: "
        "parameters with 36 channels and 20 cells. In brackets the 95 % interval (Student, paired by seed)."
    )
    return table(heading, rows) + "\n\n" + note


def cells() -> str:
    """Return the sizes of found cells for each list of operators, beside random cells of the same list."""
    content = _read("search_cells.json")
    if content is None:
        return _nothing("cells")
    lists, saved = content["configuration"]["operators"], {row["arm"]: row for row in content["saved_percent"]}
    gained = {row["arm"]: row for row in content["gained_points"]}
    searches = [run for run in content["runs"] if run["kind"] == "search"]
    rows = []
    for arm, runs in _grouped(searches, "arm"):
        sizes, random = [run["parameters"] / 1e6 for run in runs], content["random"][arm]
        rows.append(
            [
                f"`{lists[arm]}`",
                str(len(runs)),
                f"{sum(sizes) / len(sizes):.2f}",
                ", ".join(f"{size:.2f}" for size in sizes),
                f"{random['mean'] / 1e6:.2f} ({random['from'] / 1e6:.2f} to {random['to'] / 1e6:.2f})",
                f"{sum(run['normal_sandglasses'] for run in runs) / len(runs):.1f}",
                f"{sum(run['normal_skips'] for run in runs) / len(runs):.1f}",
                _interval(saved.get(arm)),
                f"{saved[arm]['random']:+.1f}" if arm in saved else "-",
                _interval(gained.get(arm)),
            ]
        )
    heading = [
        *("operators", "n", "mean, M", "of each seed", "random cells, M (middle 80 %)", "sandglasses", "skips"),
        *("% saved", "random, % saved", "points gained"),
    ]
    search = content["configuration"]["search"]
    note = (
        f"{_count(content)}. Searches with {search['channels']} channels, {search['cells']} cells, {search['epochs']} "
        f"epochs on {search['train_images']:,} images of 16 pixels. Sizes: parameters with 36 channels and 20 cells. "
        "Sandglasses, skips: mean count in the normal cell. In brackets the 95 % interval against `darts` (Student, "
        f"paired by seed), of geometric means. Random cells: {content['random']['darts']['n']} of each list. By what "
        f"was written down before: {_verdict(content, lists)}."
    )
    return table(heading, rows) + "\n\n" + note


def _verdict(content: Mapping[str, Any], lists: Mapping[str, str]) -> str:
    verdicts = {arm: "shown" if shown else "not shown" for arm, shown in content["shown"].items()}
    return ", ".join(f"`{lists[arm]}` {verdict}" for arm, verdict in verdicts.items())


def blocks() -> str:
    """Return what a search over blocks found for each budget, beside plain and random networks."""
    content = _read("search_blocks.json")
    if content is None:
        return _nothing("blocks")
    milliseconds: Mapping[str, float] = next(
        (run["milliseconds"] for run in content["runs"] if run["kind"] == "latency"), {}
    )
    rows = []
    for share, budget in content["budgets_ms"].items():
        for kind in ("found", "random", "plain"):
            runs = [run for run in content["runs"] if (run["kind"], run.get("budget_percent")) == (kind, int(share))]
            if not runs:
                continue
            own = [milliseconds[run["run"]] for run in runs if run["run"] in milliseconds]
            rows.append(
                [
                    f"{share} % ({budget:.3f} ms)",
                    kind,
                    f"{sum(own) / len(own):.3f}" if own else "-",
                    f"{sum(run['parameters'] for run in runs) / len(runs):,.0f}",
                    str(len(runs)),
                    *_mean([100 * run["ema"]["correct_top1"] / run["ema"]["images"] for run in runs]),
                    *(_interval(_difference_of(content, int(share), kind)),),
                ]
            )
    heading = ["budget", "network", "ms", "parameters", "n", "mean top-1, %", "of each run", "points below found"]
    tuning = content["configuration"]["tuning"]
    note = (
        f"{_count(content)}. {tuning['epochs']} epochs of fine-tuning each, averaged weights. ms: whole networks, "
        "measured in turns in one run (mean of the random ones). In brackets the 95 % interval (Student, paired by "
        "seed)."
    )
    return (table(heading, rows) + "\n\n" if rows else "") + note


def _pairs(wanted: Any) -> str:
    content = _read("tiny20_pairs.json")
    if content is None:
        return _nothing("pairs")
    rows = [
        [
            model,
            KINDS[kind],
            str(len(runs)),
            f"{runs[0]['parameters']:,}",
            *_mean([100 * run[kind]["correct_top1"] / run[kind]["images"] for run in runs], 2),
            _interval(_pair_of(content, model, kind)),
        ]
        for model, runs in _grouped(content["runs"], "model")
        if wanted(model)
        for kind in KINDS
    ]
    images = content["runs"][0]["raw"]["images"]
    note = (
        f"{_count(content)}, {content['configuration']['epochs']} epochs each, {images:,} validation images. n: runs, "
        "one a seed. Points: top-1 of mobilenext_x0_35 minus that of the network, over the seeds that both have; in "
        "brackets the 95 % interval (Student, paired) and their number."
    )
    heading = ["network", "weights", "n", "parameters", "mean top-1, %", "of each seed", "points below MobileNeXt"]
    return table(heading, rows) + "\n\n" + note


def _read(file: str) -> Any:
    return load(file) if (ROOT / "results" / file).is_file() else None


def _nothing(experiment: str) -> str:
    return f"No run is finished (n = 0): `{COMMAND} --only {experiment}` makes them."


def _count(content: Mapping[str, Any]) -> str:
    return f"{len(content['runs'])} of {content['runs_planned']} runs are finished"


def _grouped(runs: Sequence[Mapping[str, Any]], field: str) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Return the runs of each value of a field, in the order of the values' first runs."""
    for value in dict.fromkeys(run[field] for run in runs):
        yield value, [run for run in runs if run[field] == value]


def _mean(values: Sequence[float], digits: int = 1) -> list[str]:
    return [f"{sum(values) / len(values):.{digits}f}", ", ".join(f"{value:.1f}" for value in values)]


def _interval(difference: Mapping[str, Any] | None) -> str:
    """Return a mean difference with its interval and the number of pairs."""
    if not difference or not difference["n"]:
        return "-"
    interval = difference["interval"]
    ends = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    return f"{difference['mean']:+.2f} ({ends}; n {difference['n']})"


def _pair_of(content: Mapping[str, Any], model: str, kind: str) -> Mapping[str, Any] | None:
    return next((pair for pair in content["pairs"] if (pair["second"], pair["weights"]) == (model, kind)), None)


def _difference_of(content: Mapping[str, Any], share: int, kind: str) -> Mapping[str, Any] | None:
    wanted = (share, kind, "ema")
    for row in content["differences"]:
        if (row["budget_percent"], row["second"], row["weights"]) == wanted:
            return row  # type: ignore[no-any-return]
    return None
