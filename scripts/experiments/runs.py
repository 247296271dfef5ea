"""Runs of the installed command that make up an experiment: who takes which, and what is kept of finished ones.

An experiment is a list of runs. Any number of processes work on one list: each takes the first run that is neither
finished nor taken. A run is taken by a lock on a file beside it, which ends with the process; one that was interrupted
goes on where it stopped. What is kept of a finished run is its row in the file of results, so its folder may be
deleted, and the list goes on from the file alone.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError, MobileNeXtError, UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.environment import environment
from mobilenext.models.architecture import Architecture
from mobilenext.origin import origin
from mobilenext.runs.training_run import KINDS, TrainingRun, read_run
from mobilenext.statistics import paired, wilson_percent

Row = Mapping[str, Any]
WAIT = 10.0  # seconds, until a run that others need may be finished


@dataclass(frozen=True)
class Run:
    """One line of a list."""

    name: str  # of its row and its folder
    rank: int  # runs of a lower rank come first, whatever experiment they are of
    begin: Callable[[Path], Sequence[str] | None]  # (folder) -> arguments of `mobilenext`, without -o; None: it is done
    expected: Mapping[str, Any] = field(default_factory=dict)  # fields of run.json, such as "recipe.epochs"
    needs: tuple[str, ...] = ()  # names of runs that are finished before this one begins


@contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file; the value is False where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Experiment(ABC):
    """A list of runs, the file of their results, and what is concluded from them."""

    def __init__(self, data: Path, folder: Path, output: Path) -> None:
        """Prepare the runs on `data` with folders in `folder`; the results are written to `output`."""
        self.data, self.folder, self.output = data, folder, output

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        """Return the runs by name."""
        return {run.name: run for run in self.planned()}

    @abstractmethod
    def planned(self) -> Sequence[Run]:
        """Return the runs in the order of the list."""

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Return what all runs have alike, as the file of results holds it."""

    @abstractmethod
    def row(self, run: Run, folder: Path) -> dict[str, Any] | None:
        """Return what is kept of a run; None where it is not finished.

        Raises:
            UsageError: the folder holds a run of something else.
        """

    @abstractmethod
    def summary(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """Return what follows from the rows of all finished runs."""

    def rows(self) -> dict[str, Row]:
        """Return the rows of the runs that are finished, in the order of the list.

        Raises:
            UsageError: the file holds results of another configuration.
        """
        if not self.output.is_file():
            return {}
        content = json.loads(self.output.read_text())
        if content["configuration"] != json.loads(json.dumps(self.configuration())):
            raise UsageError(f"{self.output} holds results of another configuration; name another folder with --output")
        stored = {row["run"]: row for row in content["runs"]}
        return {name: stored[name] for name in self.runs if name in stored}

    def keep(self, run: Run) -> None:
        """Write the row of a run that has just been finished into the file of results.

        Raises:
            UsageError: it was of other data than the runs before. DataError: it is not finished.
        """
        row = self.row(run, self.folder / run.name)
        if row is None:
            raise DataError(f"{self.folder / run.name} holds no finished run; delete it, and start again")
        with taken(self.folder / "results.lock", wait=True):
            rows = self.rows()
            _check_data(row, rows.values(), self.output)
            rows[run.name] = {"run": run.name, **row}
            self._write({name: rows[name] for name in self.runs if name in rows})

    def _write(self, rows: Mapping[str, Row]) -> None:
        content = {
            "configuration": self.configuration(),
            "runs_planned": len(self.runs),
            "runs": list(rows.values()),
            **self.summary(rows),
            **origin(),
            "environment": environment(),
        }
        self.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.output, (json.dumps(content, indent=1) + "\n").encode())


def _check_data(row: Row, others: Iterable[Row], output: Path) -> None:
    """Refuse a row of other data than one of the same kind had."""
    for other in others:
        if row.get("kind") == other.get("kind") and row.get("data") != other.get("data"):
            raise UsageError(
                f"the run is of other data ({row.get('data')}) than those of {output} ({other.get('data')}); "
                "name another folder with --output"
            )


def carry_out(experiments: Sequence[Experiment]) -> list[str]:
    """Carry out what is neither finished nor taken, in the order of the list; return the runs that failed."""
    listed = [(experiment, run) for experiment in experiments for run in experiment.runs.values()]
    listed.sort(key=lambda pair: pair[1].rank)
    failed: dict[str, str] = {}
    while True:
        blocked = elsewhere = progress = False
        for experiment, run in listed:
            finished, path = experiment.rows(), experiment.folder / run.name
            if run.name in finished or str(path) in failed:
                continue
            if any(name not in finished for name in run.needs):
                blocked = True
                continue
            with taken(path.with_suffix(".lock")) as mine:
                elsewhere |= not mine
                if not mine or run.name in experiment.rows():
                    continue
                if problem := _carry_out(experiment, run):
                    failed[str(path)] = problem
                    print(problem, file=sys.stderr, flush=True)
            progress = True
            break
        if not progress and not (blocked and elsewhere):
            return list(failed.values())
        if not progress:
            time.sleep(WAIT)


def _carry_out(experiment: Experiment, run: Run) -> str | None:
    """Begin a run or go on with it, and keep its row; return what went wrong."""
    path = experiment.folder / run.name
    log = path.with_suffix(".log")
    try:
        if experiment.row(run, path) is None:
            print(f"{path}: begins", file=sys.stderr, flush=True)
            arguments = command(run, path)
            with log.open("a") as file:
                code = subprocess.run(arguments, stdout=file, stderr=file).returncode if arguments else 0
            if code:
                return f"{path}: exit code {code}; {log} says why"
        experiment.keep(run)
    except MobileNeXtError as error:
        return f"{path}: {error}"
    return None


def command(run: Run, folder: Path) -> list[str] | None:
    """Return the command that begins the run or goes on with it; None where it needs no command."""
    program = [sys.executable, "-m", "mobilenext"]
    if (folder / "run.json").is_file():
        verb = "search" if json.loads((folder / "run.json").read_text()).get("task") == "search" else "train"
        return [*program, verb, "--resume", str(folder)]
    arguments = run.begin(folder)
    return None if arguments is None else [*program, *arguments, "-o", str(folder)]


def finished_run(run: Run, folder: Path) -> TrainingRun | None:
    """Return the run of a folder; None where it is not finished.

    Raises:
        UsageError: the folder holds a run of something else.
    """
    if not (folder / "result.json").is_file():
        return None
    training = read_run(folder)
    here = {name: _field(training.config, name) for name in run.expected}
    if here != json.loads(json.dumps(run.expected)):
        raise UsageError(f"{folder} holds a run of {here}, expected {dict(run.expected)}; name another folder")
    return training


def _field(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def parameters_of(architecture: Architecture, num_classes: int, image_size: int) -> int:
    """Return the trained values of a network."""
    from mobilenext.models.build import architecture_network
    from mobilenext.models.counting import count

    return count(architecture_network(architecture, num_classes=num_classes), image_size).parameters


def training_row(training: TrainingRun, parameters: int) -> dict[str, Any]:
    """Return what is kept of the training of a network: counts with Wilson's interval, and what it took."""
    result = training.result
    assert result is not None  # it is finished
    counts = {kind: dict(result["final"][kind]) for kind in KINDS if result["final"].get(kind)}
    for count in counts.values():
        count["interval"] = wilson_percent(count["correct_top1"], count["images"])
    return {
        "seed": training.config["seed"],
        "parameters": parameters,
        **counts,
        **{name: result[name] for name in ("train_seconds", "images_per_second")},
        "data": {name: training.config["data"][name] for name in ("folder", "train_sha256", "val_sha256")},
    }


def by_seed(rows: Iterable[Row], kind: str = "raw") -> dict[int, float]:
    """Return the share of right first answers of each row, in percent, by its seed."""
    return {row["seed"]: 100.0 * float(row[kind]["correct_top1"]) / float(row[kind]["images"]) for row in rows}


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, Any]:
    """Return the mean of first - second over the seeds that both have, and its 95 % interval."""
    seeds = sorted(first.keys() & second.keys())
    row: dict[str, Any] = {"n": len(seeds), "seeds": seeds}
    if seeds:
        mean, interval = paired([first[seed] for seed in seeds], [second[seed] for seed in seeds])
        row |= {"differences": [first[seed] - second[seed] for seed in seeds], "mean": mean, "interval": interval}
    return row
