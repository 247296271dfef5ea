"""Predictions as lines, ``<name>TAB[[ids],[scores]]`` or with boxes behind, and whether two sets of them agree."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mobilenext.comparable import Comparable, Comparison
from mobilenext.errors import CheckFailed, DataError, UsageError
from mobilenext.json_files import Unfit, parse
from mobilenext.tasks import find_task, task_names

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_SHOWN = 5
FORMS = "[[ids],[scores]] or [[labels],[scores],[boxes]]"


def read_answers(path: Path, *, only: bool = False) -> dict[str, Comparable]:
    """Read the predictions in a file, by the name of the image.

    Args:
        path: a log, whose other lines are skipped.
        only: whether every line must be a prediction.

    Raises:
        DataError: a file that cannot be read, an image that comes twice, or with `only` another line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    answers: dict[str, Comparable] = {}
    for number, line in enumerate(lines, 1):
        name, tab, text = line.partition("\t")
        answer = _answer(text) if tab else None
        if answer is None:
            if only and line.strip():
                raise DataError(f"{path}, line {number}: {line[:80]!r}; expected <name>TAB and {FORMS}")
            continue
        if name in answers:
            raise DataError(f"{path}, line {number}: {name} comes twice")
        answers[name] = answer
    return answers


def _answer(text: str) -> Comparable | None:
    """Return the answer of a line, of the task whose columns it has; None for another text."""
    try:
        columns = parse(text.encode(errors="replace"), "an answer")
    except DataError:
        return None
    for name in task_names():
        if comparison := find_task(name).comparison:
            try:
                return comparison.of_columns(columns)
            except Unfit:
                continue
    return None


def comparison_of(task: str | None) -> Comparison:
    """Return how the answers of a task are compared.

    Raises:
        UsageError: they are not.
    """
    comparison = find_task(task).comparison
    if comparison is None:
        raise UsageError(f"the answers of a network for {task} cannot be written into the log of a test driver")
    return comparison


def disagreements(
    expected: Mapping[str, Comparable],
    actual: Mapping[str, Comparable],
    atol: float,
    names: Iterable[str] | None = None,
) -> list[str]:
    """Return a sentence for every name (default: all that are expected) for which the two differ."""
    problems = []
    for name in expected if names is None else names:
        if name not in actual or name not in expected:
            where = "" if name not in actual else " among those expected"
            problems.append(f"{name}: no prediction{where}")
        elif type(expected[name]) is not type(actual[name]):
            problems.append(f"{name}: an answer of another task")
        elif problem := expected[name].disagreement(actual[name], atol):
            problems.append(f"{name}: {problem}")
    return problems


def compare_files(expected: str, actual: str, atol: float) -> list[str]:
    """Compare logs with reference files of the precision in their names; return a sentence for every log.

    Args:
        expected: a pattern for reference files, in which every line is a prediction.
        actual: a pattern for logs.
        atol: of a score.

    Raises:
        CheckFailed: an image that is missing or differs. DataError: no file, or nothing to compare in it.
    """
    references = {path: read_answers(path, only=True) for path in _files(expected)}
    for path, answers in references.items():
        if not answers:
            raise DataError(f"{path} has no predictions; expected lines <name>TAB and {FORMS}")
    sentences, problems = [], []
    for log_file in _files(actual):
        reference = _reference_for(log_file, references)
        differing = disagreements(references[reference], read_answers(log_file), atol)
        if differing:
            more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            problems.append(f"{log_file} differs from {reference}: {'; '.join(differing[:_SHOWN])}{more}")
        else:
            sentences.append(f"{log_file}: {len(references[reference])} images as in {reference}, within {atol:g}")
    if problems:
        raise CheckFailed("\n".join(problems))
    return sentences


def _files(pattern: str) -> list[Path]:
    files = sorted(Path(name) for name in glob.glob(pattern) if Path(name).is_file())  # noqa: PTH207
    if not files:
        raise DataError(f"{pattern}: no such file; nothing would be compared")
    return files


def _reference_for(log_file: Path, references: Mapping[Path, Any]) -> Path:
    """Return the only reference, or the only one of the log's precision."""
    precisions = {path: set(re.findall("|".join(PRECISIONS), path.name)) for path in (*references, log_file)}
    of_log = precisions[log_file]
    fitting = [path for path in references if not of_log or not precisions[path] or precisions[path] & of_log]
    if len(fitting) != 1:
        what = "several references fit" if fitting else "no reference is of its precision"
        raise DataError(f"{log_file}: {what}: {', '.join(map(str, fitting or references))}")
    return fitting[0]
