"""The folders that a report is made of: evaluations, training runs, benches; each is recognized and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError
from mobilenext.file_kinds import other_kind
from mobilenext.runs.bench import BENCH, Bench, read_bench
from mobilenext.runs.evaluation import read_evaluation
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT
from mobilenext.runs.run_folder import CONFIG
from mobilenext.runs.training_run import TrainingRun, read_run
from mobilenext.task import Task
from mobilenext.tasks import find_task

EXPECTED = (
    f"expected an evaluation ({RESULT} and {PREDICTIONS}), a training run ({CONFIG}) or a bench ({BENCH}); "
    "name a folder that was an --output"
)


@dataclass(frozen=True)
class Inputs:
    """Everything that a page shows, in the order in which the folders were named."""

    evaluations: list[Any]  # of the type that their task makes of them, a `Reported`
    training: list[TrainingRun]
    benches: list[Bench]
    task: Task  # of all of them


def read_inputs(folders: Sequence[Path]) -> Inputs:
    """Read each folder as what it is; one may be a bench beside an evaluation or a training run.

    Raises:
        DataError: it is none of them, is unfinished, is of another task than the others, or a file in it is damaged or
            does not belong to the others.
    """
    evaluations: list[Any] = []
    training: list[TrainingRun] = []
    benches: list[Bench] = []
    for folder, name in zip(folders, _names(folders), strict=True):
        if not folder.is_dir():
            problem = other_kind(folder) or ("not a folder" if folder.exists() else "no such folder")
            raise DataError(f"{folder}: {problem}; {EXPECTED}")
        has_bench = (folder / BENCH).is_file()
        if has_bench:
            benches.append(read_bench(folder, name))
        if (folder / CONFIG).is_file():
            training.append(read_run(folder, name))
        elif (folder / RESULT).is_file() or (folder / PREDICTIONS).is_file():
            evaluations.append(read_evaluation(folder, name, expected=EXPECTED))
        elif (folder / JOURNAL).is_file() and not has_bench:
            raise DataError(f"{folder}: an unfinished evaluation ({JOURNAL}); finish it with --resume, then report it")
        elif not has_bench:
            raise DataError(f"{folder}: {other_kind(folder) or 'none of the files of a run is there'}; {EXPECTED}")
    names = [*(run.result.get("task") for run in evaluations), *(run.config.get("task") for run in training)]
    tasks = {task.name: task for task in map(find_task, names or [None])}
    if len(tasks) > 1:
        raise DataError(f"these runs are of several tasks, {', '.join(tasks)}; report those of each task on their own")
    return Inputs(evaluations, training, benches, *tasks.values())


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many parents as equal names need to differ, or else with numbers."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    for depth in range(2, 6):
        repeated = {name for name in names if names.count(name) > 1}
        names = [
            "/".join(path.parts[-depth:]).lstrip("/") if name in repeated else name
            for path, name in zip(paths, names, strict=True)
        ]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
