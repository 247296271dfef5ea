"""Training runs side by side: what differs between them, and the spread over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mobilenext.errors import UsageError
from mobilenext.recipe import HEADER
from mobilenext.runs.setups import shortened
from mobilenext.runs.training_run import KINDS, TrainingRun
from mobilenext.statistics import welch
from mobilenext.task import Metric, Task

# What does not tell a setup from another: a group goes over the seed, the others do not decide what is learnt.
NOT_SETUP = ("seed", "data.folder")
# What is no part of the configuration: where and when a run was made, and what a recipe says of itself.
NOT_COMPARED = (
    *("environment", "data_folder", "started", "command"),
    *(f"recipe.{name}" for name in HEADER if name != "name"),
)


def task_of(runs: Sequence[TrainingRun]) -> Task:
    """Return the task of these runs.

    Raises:
        UsageError: they have several.
    """
    tasks = list(dict.fromkeys(run.task.name for run in runs))
    if len(tasks) > 1:
        raise UsageError(f"these runs are of several tasks, {', '.join(tasks)}; name runs of one of them")
    return runs[0].task


@dataclass(frozen=True)
class _Sample:
    """The final metric of the runs of a group, one for each seed."""

    run: TrainingRun  # one of them
    group: str
    kind: str  # of the weights
    values: list[float]


def comparison(runs: Sequence[TrainingRun]) -> dict[str, Any]:
    """Return a JSON-able summary of each run, what differs between them, groups over seeds, and pairs of groups."""
    metric, names = task_of(runs).metric, names_of(runs)
    samples: list[_Sample] = []
    repeated: list[str] = []
    for group, members in grouped([run for run in runs if run.result]).items():
        firsts = {run.config["seed"]: run for run in reversed(members)}  # the same seed again is not another sample
        repeated += [names[runs.index(run)] for run in members if firsts[run.config["seed"]] is not run]
        for kind in KINDS:
            counts = [run.result["final"].get(kind) for run in firsts.values() if run.result]
            if len(counts) > 1 and all(counts):
                values = [members[0].measured(one).value for one in counts]
                samples.append(_Sample(members[0], group, kind, values))
    return {
        "runs": [{"run": name, **_summary(run)} for name, run in zip(names, runs, strict=True)],
        "differences": differences(runs),
        "repeated": repeated,
        "groups": [_group(sample, metric) for sample in samples],
        "pairs": [
            {"group": sample.group, "minus": other.group, "kind": sample.kind, **_difference(sample, other, metric)}
            for other, sample in combinations(samples, 2)
            if sample.kind == other.kind and not any(map(is_checksum, differences([other.run, sample.run])))
        ],
    }


def _group(sample: _Sample, metric: Metric) -> dict[str, Any]:
    values = sample.values
    return {
        "group": sample.group,
        "kind": sample.kind,
        "n": len(values),
        f"mean_{metric.field}": statistics.mean(values),
        metric.difference_field("std"): statistics.stdev(values),
        f"min_{metric.field}": min(values),
        f"max_{metric.field}": max(values),
    }


def _difference(first: _Sample, second: _Sample, metric: Metric) -> dict[str, Any]:
    difference, interval, degrees = welch(first.values, second.values)
    return {
        metric.difference_field("difference"): difference,
        metric.difference_field("interval"): interval,
        "degrees_of_freedom": degrees,
    }


def differences(runs: Sequence[TrainingRun]) -> dict[str, list[Any]]:
    """Return the fields in which the configurations differ, nested ones as ``recipe.lr``: a value for each run."""
    flat = [_flat(run.config) for run in runs]
    values = {field: [config.get(field) for config in flat] for config in flat for field in config}
    return {field: column for field, column in values.items() if any(value != column[0] for value in column)}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in config.items():
        if prefix + key not in NOT_COMPARED:
            fields |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return fields


def is_checksum(field: str) -> bool:
    """Return whether a field of the configuration is the checksum of data."""
    return field.startswith("data.") and field.endswith("sha256")


def value_text(value: Any) -> str:
    """Return a value of the configuration as text: a checksum by its first digits, a long list by its size."""
    if isinstance(value, str):
        return value[:8] if len(value) == 64 else value
    return shortened(value, longest=80)


def names_of(runs: Sequence[TrainingRun]) -> list[str]:
    """Return the folders' names, or their paths where two have the same name."""
    names = [run.name for run in runs]
    return [run.name if names.count(run.name) == 1 else str(run.folder) for run in runs]


def grouped(runs: Sequence[TrainingRun]) -> dict[str, list[TrainingRun]]:
    """Return the runs that differ in nothing but the seed, under a name that tells them from the others."""
    setups: dict[str, list[TrainingRun]] = {}
    for run in runs:
        setup = {field: value for field, value in _flat(run.config).items() if field not in NOT_SETUP}
        setups.setdefault(json.dumps(setup, sort_keys=True), []).append(run)
    groups = {}
    for members in setups.values():
        alike = [run for run, *_ in setups.values() if _setup_name(run) == _setup_name(members[0])]
        different = {field: values for field, values in differences(alike).items() if field not in NOT_SETUP}
        place = alike.index(members[0])
        own = [f"{name.split('.')[-1]} {value_text(values[place])}" for name, values in different.items()]
        groups[", ".join(dict.fromkeys([_setup_name(members[0]), *own]))] = members
    return groups


def _setup_name(run: TrainingRun) -> str:
    divisor = run.config["identity_divisor"]
    return f"{run.config['model']}{f', divisor {divisor}' if divisor != 1 else ''}, {run.config['recipe']['name']}"


def _summary(run: TrainingRun) -> dict[str, Any]:
    config, result, last = run.config, run.result, run.epochs[-1] if run.epochs else {"epoch": 0}
    sign = 1 if run.task.metric.larger_is_better else -1
    tried = [{"epoch": at, "kind": kind, **counts} for kind in KINDS for at, counts in run.validations(kind).items()]
    best = max(tried, key=lambda counts: sign * run.measured(counts).value, default=None)
    if result:
        best = result["best"]
    final = {kind: result["final"].get(kind) for kind in KINDS} if result else {}
    return {
        **{key: config[key] for key in ("model", "identity_divisor", "seed", "epochs")},
        "recipe": config["recipe"]["name"],
        "finished": result is not None,
        "epochs_done": last["epoch"],
        "final": {kind: counts and _with_metric(run, counts) for kind, counts in final.items()},
        "best": best and _with_metric(run, best),
        "train_loss": last.get("train_loss"),
        "images_per_second": (result or last).get("images_per_second"),
        "train_seconds": result["train_seconds"] if result else sum(row["seconds"] for row in run.epochs),
    }


def _with_metric(run: TrainingRun, counts: Mapping[str, Any]) -> dict[str, Any]:
    return {**counts, run.task.metric.field: run.measured(counts).value}
