"""The folders that a report is made of: evaluations, training runs, benches; recognised, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.classification.analysis import Flags, Ids, Values
from mobilenext.classification.metrics import TOP, ClassScores, check_prediction, class_scores
from mobilenext.errors import DataError
from mobilenext.file_kinds import other_kind
from mobilenext.json_files import Unfit, many, number, optional, read_json, read_json_lines, record, text, whole
from mobilenext.report.training_report import Run, read_run
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT
from mobilenext.runs.result import read_result

RUN, BENCH = "run.json", "bench.json"
EXPECTED = (
    f"expected an evaluation ({RESULT} and {PREDICTIONS}), a training run ({RUN}) or a bench ({BENCH}); "
    "name a folder that was an --output"
)
_MS = number(0, 1e9)
_BENCH = {
    **dict.fromkeys(("configuration", "environment"), record({})),
    "rows": many(
        record(
            {
                **dict.fromkeys(("network", "runtime", "engine", "precision"), text()),
                **dict.fromkeys(("identity_divisor", "image_size", "threads", "batch_size"), whole(0)),
                **dict.fromkeys(("median_ms", "p10_ms", "p90_ms", "ms_per_image", "start_up_ms"), _MS),
                "images_per_second": number(0),
                "mult_adds": optional(whole(0)),
                **dict.fromkeys(("times_compute_floor", "peak_memory_mib"), optional(number(0, 1e12))),
            }
        )
    ),
    "skipped": optional(many(record(dict.fromkeys(("network", "runtime", "reason"), text())))),
}
_REMEDY = "evaluate again"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation as it lies on disk; the predictions as columns, an element for each image."""

    folder: Path
    name: str
    result: dict[str, Any]
    paths: list[str]
    labels: Ids  # [N]
    best: Ids  # [N, 5] class ids, the best first; -1 where there are fewer, and for an unreadable image
    scores: Values  # [N, 5] their probabilities; 0 where there are none
    errors: dict[int, str]  # place: why the image could not be read

    @cached_property
    def names(self) -> dict[int, str]:
        """Class ids to names: of all classes or, in results of earlier versions, of those that occur."""
        if names := self.result.get("class_names"):
            return dict(enumerate(names))
        return {int(row["class"]): str(row["name"]) for row in self.result["per_class"] if row.get("name")}

    @cached_property
    def correct(self) -> Flags:
        """[N] whether the best class is the label."""
        return np.asarray(self.best[:, 0] == self.labels)

    @cached_property
    def class_scores(self) -> tuple[Ids, ClassScores]:
        """The classes that occur as labels or answers, and their scores, counted on the predictions."""
        answers = self.best[self.readable, 0]
        classes = np.unique(np.concatenate([self.labels, answers]))
        counts = [
            np.bincount(np.searchsorted(classes, ids), minlength=len(classes))
            for ids in (self.labels, answers, self.labels[self.correct])
        ]
        return classes, class_scores(*counts)

    @cached_property
    def readable(self) -> Flags:
        """[N]"""
        return np.asarray(self.best[:, 0] >= 0)


@dataclass(frozen=True)
class Bench:
    """One result of ``mobilenext bench``."""

    folder: Path
    name: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """All that a page is about, in the order in which it was named."""

    evaluations: list[Evaluation]
    training: list[Run]
    benches: list[Bench]


def read_inputs(folders: Sequence[Path]) -> Inputs:
    """Read each folder as what it is; one may be a bench beside an evaluation or a training run.

    Raises:
        DataError: it is none of them, is unfinished, or a file in it is damaged or does not belong to the others.
    """
    inputs = Inputs([], [], [])
    names = _names(folders)
    for folder, name in zip(folders, names, strict=True):
        if not folder.is_dir():
            problem = other_kind(folder) or ("not a folder" if folder.exists() else "no such folder")
            raise DataError(f"{folder}: {problem}; {EXPECTED}")
        found = False
        if (folder / BENCH).is_file():
            inputs.benches.append(Bench(folder, name, _bench(folder / BENCH)))
            found = True
        if (folder / RUN).is_file():
            run = read_run(folder)
            inputs.training.append(Run(run.folder, name, run.config, run.steps, run.epochs, run.result))
            found = True
        elif (folder / RESULT).is_file() or (folder / PREDICTIONS).is_file():
            inputs.evaluations.append(_evaluation(folder, name))
            found = True
        elif (folder / JOURNAL).is_file() and not found:
            raise DataError(f"{folder}: an unfinished evaluation ({JOURNAL}); finish it with --resume, then report it")
        if not found:
            raise DataError(f"{folder}: {other_kind(folder) or 'none of the files of a run is there'}; {EXPECTED}")
    return inputs


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parents as tell two of the same name apart; numbered where nothing does."""
    whole = [folder.resolve() for folder in folders]
    names = [path.name for path in whole]
    for depth in range(2, 6):
        repeated = {name for name in names if names.count(name) > 1}
        names = [
            "/".join(path.parts[-depth:]).lstrip("/") if name in repeated else name
            for path, name in zip(whole, names, strict=True)
        ]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _evaluation(folder: Path, name: str) -> Evaluation:
    result = read_result(folder / RESULT, missing=f"is missing; {EXPECTED}")
    path = folder / PREDICTIONS
    images = result["images"] if path.is_file() else 0  # that there is none, the reader says
    if images and images > path.stat().st_size:  # before arrays of that length are made
        raise _not_of_result(path, f"{images} images cannot be in it")
    paths: list[str] = []
    errors: dict[int, str] = {}
    labels = np.zeros(images, np.int64)
    best = np.full((images, TOP), -1, np.int64)
    scores = np.zeros((images, TOP), np.float64)
    for line, row in read_json_lines(path, remedy=_REMEDY, missing=f"is missing; {EXPECTED}"):
        place = line - 1
        if place >= images:
            raise _not_of_result(path, f"more than {images} images")
        # Columns: Prediction objects of 50,000 images would need several times the memory.
        try:
            check_prediction(row, place, result["num_classes"])
        except Unfit as error:
            raise DataError(f"{path}: line {line} is damaged: {error}; {_REMEDY}") from error
        classes = row["top5"]
        labels[place] = row["label"]
        best[place, : len(classes)] = classes
        scores[place, : len(classes)] = row["scores"]
        paths.append(row["path"])
        if row.get("error") is not None:
            errors[place] = row["error"]
    evaluation = Evaluation(folder, name, result, paths, labels, best, scores, errors)
    counted = len(paths), int(evaluation.correct.sum()), int((best == labels[:, None]).any(axis=1).sum()), len(errors)
    said = tuple(result[key] for key in ("images", "correct_top1", "correct_top5", "unreadable"))
    if counted != said:
        raise _not_of_result(path, "{} images, {} correct top-1, {} top-5, {} unreadable".format(*counted), said)
    occurring = dict(zip(*(column.tolist() for column in np.unique(labels, return_counts=True)), strict=True))
    for row in result["per_class"]:
        if row["images"] != occurring.get(row["class"], 0):
            raise _not_of_result(path, f"{occurring.get(row['class'], 0)} images of class {row['class']}")
    return evaluation


def _not_of_result(path: Path, found: str, said: Sequence[int] = ()) -> DataError:
    expected = "; expected {}, {}, {}, {}".format(*said) if said else ""
    return DataError(f"{path} is not of the {RESULT} beside it: {found}{expected}; evaluate again")


def _bench(path: Path) -> dict[str, Any]:
    return read_json(path, _BENCH, remedy="restore it, or run the bench again")
