"""The folders that a report is made of: evaluations, trainings, searches, benches; each is recognized and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilenext.errors import DataError
from mobilenext.file_kinds import other_kind
from mobilenext.runs.bench import BENCH, Bench, read_bench
from mobilenext.runs.evaluation import read_evaluation
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT
from mobilenext.runs.result import read_result
from mobilenext.runs.run_folder import CONFIG
from mobilenext.runs.training_run import TrainingRun, read_run
from mobilenext.task import Task
from mobilenext.tasks import find_task

EXPECTED = (
    f"expected an evaluation ({RESULT} and {PREDICTIONS}), a training or search ({CONFIG}) or a bench "
    f"({BENCH}); name a folder that was an --output"
)


@dataclass(frozen=True)
class TaskRuns:
    """The runs of one task, in the order in which their folders were named."""

    task: Task
    evaluations: list[Any] = field(default_factory=list)  # of the type that the task makes of them, a `Reported`
    training: list[TrainingRun] = field(default_factory=list)


@dataclass(frozen=True)
class Inputs:
    """Everything that a page shows; tasks in the order in which their first folders were named."""

    groups: list[TaskRuns]
    benches: list[Bench]

    @property
    def evaluations(self) -> list[Any]:
        """Return the evaluations of all tasks."""
        return [run for group in self.groups for run in group.evaluations]

    @property
    def training(self) -> list[TrainingRun]:
        """Return the training runs of all tasks; searches are among them."""
        return [run for group in self.groups for run in group.training]


def read_inputs(folders: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> Inputs:
    """Read each folder as what it is; one may be a bench beside an evaluation or a training run.

    Args:
        folders: in the order of the page.
        progress: called with the number of images whose predictions are read, and of all.

    Raises:
        DataError: it is none of them, is unfinished, or a file in it is damaged or does not belong to the others.
    """
    groups: dict[str, TaskRuns] = {}
    benches: list[Bench] = []
    total, before = sum(map(_images, folders)) if progress else 0, 0

    def count(read: int) -> None:
        if progress:
            progress(min(before + read, total), total)

    def group_of(name: str | None) -> TaskRuns:
        task = find_task(name)
        return groups.setdefault(task.name, TaskRuns(task))

    for folder, name in zip(folders, _names(folders), strict=True):
        if not folder.is_dir():
            problem = other_kind(folder) or ("not a folder" if folder.exists() else "no such folder")
            raise DataError(f"{folder}: {problem}; {EXPECTED}")
        has_bench = (folder / BENCH).is_file()
        if has_bench:
            benches.append(read_bench(folder, name))
        if (folder / CONFIG).is_file():
            run = read_run(folder, name)
            group_of(run.task.name).training.append(run)
        elif (folder / RESULT).is_file() or (folder / PREDICTIONS).is_file():
            evaluation = read_evaluation(folder, name, expected=EXPECTED, progress=count)
            before += len(evaluation.paths)
            group_of(evaluation.result.get("task")).evaluations.append(evaluation)
        elif (folder / JOURNAL).is_file() and not has_bench:
            raise DataError(f"{folder}: an unfinished evaluation ({JOURNAL}); finish it with --resume, then report it")
        elif not has_bench:
            raise DataError(f"{folder}: {other_kind(folder) or 'none of the files of a run is there'}; {EXPECTED}")
    return Inputs(list(groups.values()), benches)


def _images(folder: Path) -> int:
    """Return the number of images of an evaluation; 0 for another folder."""
    if (folder / CONFIG).is_file() or not (folder / RESULT).is_file():
        return 0
    images: int = read_result(folder / RESULT, missing=f"is missing; {EXPECTED}")["images"]
    return images


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
