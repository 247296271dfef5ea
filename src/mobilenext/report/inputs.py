"""The folders that a report is made of: evaluations, training runs, benches; recognised, read and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.errors import DataError
from mobilenext.evaluation.journal import JOURNAL, PREDICTIONS, RESULT
from mobilenext.evaluation.metrics import TOP
from mobilenext.report.statistics import Flags, Ids, Values
from mobilenext.report.training_report import Run, read_run

RUN, BENCH = "run.json", "bench.json"
EXPECTED = (
    f"expected an evaluation ({RESULT} and {PREDICTIONS}), a training run ({RUN}) or a bench ({BENCH}); "
    "name a folder that was an --output"
)
NUMBER, PAIR = (int, float), (list,)
# What the page cannot do without. Fields of newer versions are shown where they are.
_RESULT: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "num_classes": (int,),
    "images": (int,),
    "unreadable": (int,),
    "correct_top1": (int,),
    "correct_top5": (int,),
    "top1_percent": NUMBER,
    "top5_percent": NUMBER,
    "top1_interval_percent": PAIR,
    "top5_interval_percent": PAIR,
    "partial": (bool,),
    "data": (dict,),
    "latency": (dict,),
    "latency.median": NUMBER,
    "latency.p10": NUMBER,
    "latency.p90": NUMBER,
    "latency.threads": (int,),
    "runtime": (str,),
    "per_class": (list,),
    "environment": (dict,),
    "weights": (dict,),
    "preprocessing": (dict,),
}
_BENCH: dict[str, tuple[type, ...]] = {"configuration": (dict,), "environment": (dict,), "rows": (list,)}
_BENCH_ROW: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("network", "runtime", "engine", "precision"), (str,)),
    **dict.fromkeys(("identity_divisor", "image_size", "threads", "batch_size"), (int,)),
    **dict.fromkeys(("median_ms", "p10_ms", "p90_ms", "ms_per_image", "images_per_second", "start_up_ms"), NUMBER),
}


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
        """Class ids to names, of the classes that occur and have one."""
        return {int(row["class"]): str(row["name"]) for row in self.result["per_class"] if row.get("name")}

    @cached_property
    def correct(self) -> Flags:
        """[N] whether the best class is the label."""
        return np.asarray(self.best[:, 0] == self.labels)

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
            raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; {EXPECTED}")
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
            raise DataError(f"{folder}: none of the files of a run is there; {EXPECTED}")
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
    result = _object(folder / RESULT, _RESULT)
    for row in result["per_class"]:
        _expect(row, dict.fromkeys(("class", "images", "correct_top1", "correct_top5"), (int,)), folder / RESULT)
    for which in ("top1_interval_percent", "top5_interval_percent"):
        if len(result[which]) != 2 or not all(isinstance(end, NUMBER) for end in result[which]):
            raise DataError(f"{folder / RESULT}: {which} is {result[which]!r}; expected two numbers")
    path = folder / PREDICTIONS
    images = result["images"]
    if images < 1 or (path.is_file() and images > path.stat().st_size):  # before arrays of that length are made
        raise _not_of_result(path, f"{images} images cannot be in it")
    paths: list[str] = []
    errors: dict[int, str] = {}
    labels = np.zeros(images, np.int64)
    best = np.full((images, TOP), -1, np.int64)
    scores = np.zeros((images, TOP), np.float64)
    try:
        with path.open("rb") as file:
            for place, line in enumerate(file):
                if place >= images:
                    raise _not_of_result(path, f"more than {images} images")
                _take(line, place, labels, best, scores, paths, errors, path, result["num_classes"])
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a file that can be read") from error
    evaluation = Evaluation(folder, name, result, paths, labels, best, scores, errors)
    counted = len(paths), int(evaluation.correct.sum()), int((best == labels[:, None]).any(axis=1).sum()), len(errors)
    said = tuple(result[key] for key in ("images", "correct_top1", "correct_top5", "unreadable"))
    if counted != said:
        raise _not_of_result(path, "{} images, {} correct top-1, {} top-5, {} unreadable".format(*counted), said)
    return evaluation


def _not_of_result(path: Path, found: str, said: Sequence[int] = ()) -> DataError:
    expected = "; expected {}, {}, {}, {}".format(*said) if said else ""
    return DataError(f"{path} is not of the {RESULT} beside it: {found}{expected}; evaluate again")


def _take(
    line: bytes,
    place: int,
    labels: Ids,
    best: Ids,
    scores: Values,
    paths: list[str],
    errors: dict[int, str],
    path: Path,
    num_classes: int,
) -> None:
    """One line into the columns; :class:`Prediction` objects of 50,000 images would need several times the memory."""
    try:
        row = json.loads(line)
        classes, values = row["top5"], row["scores"]
        labels[place] = row["label"]
        best[place, : len(classes)] = classes
        scores[place, : len(values)] = values
        paths.append(str(row["path"]))
        if row.get("error") is not None:
            errors[place] = str(row["error"])
        if len(classes) != len(values) or bool(classes) == (place in errors) or row["index"] != place:
            raise ValueError("its fields do not fit each other")
        if not all(0 <= number < num_classes for number in (row["label"], *classes)):
            raise ValueError(f"a class outside 0 to {num_classes - 1}")
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("a probability outside 0 to 1")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: line {place + 1} is damaged ({error}); evaluate again") from error


def _bench(path: Path) -> dict[str, Any]:
    result = _object(path, _BENCH)
    for row in result["rows"]:
        _expect(row, _BENCH_ROW, path)
    return result


def _object(path: Path, fields: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a file that can be read") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); expected JSON; restore it, or run the command again") from error
    _expect(value, fields, path)
    return dict(value)


def _expect(value: Any, fields: dict[str, tuple[type, ...]], path: Path) -> None:
    for field, types in fields.items():
        inner = value
        for part in field.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        if not isinstance(inner, types):
            kinds = " or ".join(kind.__name__ for kind in types)
            raise DataError(f"{path}: {field} is {inner!r:.60}; expected {kinds}; restore it, or run the command again")
