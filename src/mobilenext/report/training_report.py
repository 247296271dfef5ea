"""Training runs side by side: a table, what differs between them, and the spread over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mobilenext.classification.fields import counted
from mobilenext.drawing.markdown import table
from mobilenext.errors import DataError
from mobilenext.file_kinds import other_kind
from mobilenext.json_files import check, nullable, number, optional, parse, read_json, read_lines, record, text, whole

KINDS = ("raw", "ema")  # the weights as trained, and their moving average
# What does not tell a setup from another: a group goes over the seed, the others do not decide what is learnt.
NOT_SETUP = ("seed", "data.folder")
_REMEDY = "restore the file, or leave this run out"
_SECONDS, _SPEED, _RATE = number(0, 1e12), number(0, 1e12), number(-1e12, 1e12)
_LOSS = number(-1e12, 1e12, finite=False)  # of a run that has diverged
_COUNTS = counted({"images": whole(1), "correct_top1": whole(0)})
_VALIDATED = record({"raw": _COUNTS, "ema": optional(_COUNTS)})
_CONFIG = {
    **dict.fromkeys(("model", "recipe.name"), text()),
    "seed": whole(0),
    **dict.fromkeys(("identity_divisor", "steps_per_epoch", "epochs"), whole(1)),
    "data": record({}),
}
_RESULT = record(
    {
        "best": counted({"images": whole(1), "correct_top1": whole(0), "epoch": whole(0), "kind": text()}),
        "final": _VALIDATED,
        "images_per_second": _SPEED,
        "train_seconds": _SECONDS,
    }
)
_ROWS = {
    "step": record({"global_step": whole(0), "loss": _LOSS, "lr": _RATE}),
    "epoch": record(
        {
            "epoch": whole(0),
            "train_loss": nullable(_LOSS),
            "seconds": _SECONDS,
            "images_per_second": nullable(_SPEED),
            "val": nullable(_VALIDATED),
        }
    ),
}
_EVENT = record({"event": text(*_ROWS)})


@dataclass(frozen=True)
class Run:
    """One training run as it lies on disk; `result` is None until it is finished."""

    folder: Path
    name: str
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    result: dict[str, Any] | None


def read_run(folder: Path) -> Run:
    """Read the folder of a training run, finished or not; a last line of the log that a kill cut is left out.

    Raises:
        DataError: there is no run, or one of its files is damaged; with the file and the line.
    """
    config = folder / "run.json"
    if not config.exists():
        found = "run.json is missing" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
        found = other_kind(folder, "run") or found
        raise DataError(f"{folder}: {found}; expected a training run; name the folder that was trained into")
    setup = read_json(config, _CONFIG, remedy=_REMEDY)
    rows: dict[str, list[dict[str, Any]]] = {"step": [], "epoch": []}
    log = folder / "log.jsonl"
    name = str(log)
    for line, content in read_lines(log, remedy=_REMEDY) if log.exists() else ():
        if content.endswith(b"\n"):
            row, where = parse(content, name, line, remedy=_REMEDY, numbers=False), f"{name}: line {line}"
            check(row, _EVENT, where, remedy=_REMEDY)
            check(row, _ROWS[row["event"]], where, remedy=_REMEDY)
            rows[row["event"]].append(row)
    result = folder / "result.json"
    finished = read_json(result, _RESULT, remedy=_REMEDY) if result.exists() else None
    return Run(folder, folder.resolve().name, setup, rows["step"], rows["epoch"], finished)


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """A JSON-able summary of each run, what differs between them, groups over seeds, and pairs of groups."""
    names, different, repeated = _names(runs), differences(runs), []
    groups: dict[tuple[str, str], tuple[Run, list[float]]] = {}  # label, kind: a run of it, top-1 of each seed
    for label, members in grouped([run for run in runs if run.result]).items():
        firsts = {run.config["seed"]: run for run in reversed(members)}  # the same seed again is not another sample
        repeated += [names[runs.index(run)] for run in members if firsts[run.config["seed"]] is not run]
        for kind in KINDS:
            counts = [run.result["final"].get(kind) for run in firsts.values() if run.result]
            if len(counts) > 1 and all(counts):
                groups[label, kind] = members[0], [percent_of(one) for one in counts]
    return {
        "runs": [{"run": name, **_summary(run)} for name, run in zip(names, runs, strict=True)],
        "differences": different,
        "repeated": repeated,
        "groups": [
            {"group": label, "kind": kind, "n": len(values), "mean_top1_percent": statistics.mean(values)}
            | {"std_points": statistics.stdev(values), "min_top1_percent": min(values), "max_top1_percent": max(values)}
            for (label, kind), (_, values) in groups.items()
        ],
        "pairs": [
            {"group": label, "minus": other, "kind": kind, **welch(values, others)}
            for ((other, kind), (one, others)), ((label, same), (two, values)) in combinations(groups.items(), 2)
            if kind == same and not any(map(_is_checksum, differences([one, two])))
        ],
    }


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The configuration fields in which the runs differ, nested ones as ``recipe.lr``: a value for each run."""
    flat = [_flat(run.config) for run in runs]
    values = {field: [config.get(field) for config in flat] for config in flat for field in config}
    return {field: each for field, each in values.items() if any(one != each[0] for one in each)}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in config.items():
        if key not in ("environment", "data_folder"):
            fields |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return fields


def _is_checksum(field: str) -> bool:
    return field.startswith("data.") and field.endswith("sha256")


def _shown(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)  # a checksum by its first digits


def _names(runs: Sequence[Run]) -> list[str]:
    """The folders' names, or their paths where two have the same name."""
    names = [run.name for run in runs]
    return [run.name if names.count(run.name) == 1 else str(run.folder) for run in runs]


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that differ in nothing but the seed, under a label that tells them from the others."""
    setups: dict[str, list[Run]] = {}
    for run in runs:
        setup = {field: value for field, value in _flat(run.config).items() if field not in NOT_SETUP}
        setups.setdefault(json.dumps(setup, sort_keys=True), []).append(run)
    groups = {}
    for members in setups.values():
        alike = [run for run, *_ in setups.values() if _label(run) == _label(members[0])]
        different = {field: values for field, values in differences(alike).items() if field not in NOT_SETUP}
        own = [f"{name.split('.')[-1]} {_shown(values[alike.index(members[0])])}" for name, values in different.items()]
        groups[", ".join(dict.fromkeys([_label(members[0]), *own]))] = members
    return groups


def _label(run: Run) -> str:
    divisor = run.config["identity_divisor"]
    return f"{run.config['model']}{f', divisor {divisor}' if divisor != 1 else ''}, {run.config['recipe']['name']}"


def percent_of(counts: Mapping[str, Any]) -> float:
    """Top-1 in percent, from the counts."""
    return float(100 * counts["correct_top1"] / counts["images"])


def evaluated(run: Run, kind: str) -> dict[float, dict[str, Any]]:
    """The counts by the epoch after which these weights were evaluated."""
    return {row["epoch"]: row["val"][kind] for row in run.epochs if row["val"] and row["val"].get(kind)}


def _summary(run: Run) -> dict[str, Any]:
    config, result, last = run.config, run.result, run.epochs[-1] if run.epochs else {"epoch": 0}
    tried = [{"epoch": at, "kind": kind, **counts} for kind in KINDS for at, counts in evaluated(run, kind).items()]
    best = result["best"] if result else max(tried, key=percent_of, default=None)
    final = {kind: result["final"].get(kind) for kind in KINDS} if result else {}
    return {
        **{key: config[key] for key in ("model", "identity_divisor", "seed", "epochs")},
        "recipe": config["recipe"]["name"],
        "finished": result is not None,
        "epochs_done": last["epoch"],
        "final": {kind: counts and {**counts, "top1_percent": percent_of(counts)} for kind, counts in final.items()},
        "best": best and {**best, "top1_percent": percent_of(best)},
        "train_loss": last.get("train_loss"),
        "images_per_second": (result or last).get("images_per_second"),
        "train_seconds": result["train_seconds"] if result else sum(row["seconds"] for row in run.epochs),
    }


def comparison_lines(runs: Sequence[Run]) -> list[str]:
    """All that is printed: the runs, what differs, and the spread over seeds."""
    result, names = comparison(runs), _names(runs)
    heading = ["run", "model", "divisor", "recipe", "seed", "epochs", "final top-1", "EMA top-1", "best", "train loss"]
    lines = [table([*heading, "images/s", "hours"], [_cells(row) for row in result["runs"]]), ""]
    for field, values in result["differences"].items():
        shown = [_shown(value) for value in values]
        holders = {one: [name for name, value in zip(names, shown, strict=True) if value == one] for one in shown}
        start = "WARNING: not comparable, the data differ" if _is_checksum(field) else "differs"
        each = [f"{value} ({', '.join(of)})" for value, of in holders.items()]
        lines.append(f"{start}: {field}: {'; '.join(each)}")
    lines += [f"not counted again: {name} repeats a seed of its group" for name in result["repeated"]]
    return [*lines, "", *group_lines(result)] if result["groups"] else lines


def _cells(row: Mapping[str, Any]) -> list[str]:
    def share(counts: Mapping[str, Any] | None) -> str:
        return f"{counts['top1_percent']:.2f} % ({counts['correct_top1']}/{counts['images']})" if counts else "-"

    best, loss, speed = row["best"], row["train_loss"], row["images_per_second"]
    return [
        *(str(row[key]) for key in ("run", "model", "identity_divisor", "recipe", "seed")),
        f"{row['epochs_done']}/{row['epochs']}",
        *(share(row["final"].get("raw")) if row["finished"] else "unfinished", share(row["final"].get("ema"))),
        f"{best['top1_percent']:.2f} % ({best['kind']}, epoch {best['epoch']})" if best else "-",
        *("-" if loss is None else f"{loss:.3f}", "-" if speed is None else f"{speed:.1f}"),
        f"{row['train_seconds'] / 3600:.2f}",
    ]


def group_lines(result: Mapping[str, Any]) -> list[str]:
    """The groups, numbered so that the pairs below can be short."""
    number = {(row["group"], row["kind"]): f"#{place}" for place, row in enumerate(result["groups"], 1)}
    values = ("mean_top1_percent", "std_points", "min_top1_percent", "max_top1_percent")
    rows = [
        [
            number[row["group"], row["kind"]],
            row["group"],
            row["kind"],
            str(row["n"]),
            *(f"{row[v]:.2f}" for v in values),
        ]
        for row in result["groups"]
    ]
    lines = [table(["", "final top-1 over seeds, %", "weights", "n", "mean", "std", "min", "max"], rows), ""]
    for pair in result["pairs"]:
        name, other = (number[pair[key], pair["kind"]] for key in ("group", "minus"))
        interval = "no interval without spread"
        if pair["interval_points"]:
            interval = "95 % (Welch): {:+.2f} to {:+.2f}".format(*pair["interval_points"])
        lines.append(f"{name} minus {other}: {pair['difference_points']:+.2f} points; {interval}")
    return lines


def welch(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """mean(first) - mean(second) and its 95 % interval by Welch's t-test (1947); None when neither has any spread."""
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (first, second)]
    difference, variance = statistics.mean(first) - statistics.mean(second), sum(part for part, _ in parts)
    if variance == 0:
        return {"difference_points": difference, "interval_points": None, "degrees_of_freedom": None}
    degrees = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    half = student_quantile(0.975, degrees) * math.sqrt(variance)
    interval = [difference - half, difference + half]
    return {"difference_points": difference, "interval_points": interval, "degrees_of_freedom": degrees}


def student_quantile(probability: float, degrees: float) -> float:
    """The t below which Student's distribution has `probability`, from 1/2; 1 to 10 000 degrees of freedom.

    With t = sqrt(degrees) tan(angle) the density becomes cos(angle)^(degrees - 1), smooth on a bounded range: its
    integral from 0 by Simpson's rule, over the whole known from the gamma function, is bisected for the angle.
    """
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))  # -pi/2 to pi/2
    low, high, parts = 0.0, math.pi / 2, 200
    for _ in range(50):
        angle = (low + high) / 2
        heights = [math.cos(angle * place / parts) ** (degrees - 1) for place in range(parts + 1)]
        area = (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])) * angle / parts / 3
        low, high = (angle, high) if area < (probability - 0.5) * whole else (low, angle)
    return math.sqrt(degrees) * math.tan(low)
