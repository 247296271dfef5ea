"""Predictions as lines, ``<name>TAB[[ids],[scores]]``, and whether two sets of them agree."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.errors import CheckFailed, DataError
from mobilenext.json_files import check, many, parse
from mobilenext.json_files import number as any_number

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_SHOWN = 5
_ROUNDING = 1.000001e-6  # of scores that are printed with six digits


@dataclass(frozen=True)
class Answer:
    """The best classes of one image, and their scores."""

    classes: tuple[int, ...]
    scores: tuple[float, ...]

    def disagreement(self, other: Answer, atol: float) -> str | None:
        """Return how `other` differs from this answer; None where no score is off by more than `atol`.

        Classes may change places, or drop out at the end, only where their scores are that close.
        """
        allowed = atol + _ROUNDING
        if len(self.classes) != len(other.classes):
            return f"{len(other.classes)} classes instead of {len(self.classes)}"
        mine, others = dict(zip(self.classes, self.scores, strict=True)), dict(zip(*_columns(other), strict=True))
        ranked = max((abs(a - b) for a, b in zip(self.scores, other.scores, strict=True)), default=0.0)
        beyond = [number for number in mine if number not in others and mine[number] > other.scores[-1] + allowed]
        worst = max([ranked, *(abs(mine[number] - others[number]) for number in mine if number in others)])
        if beyond:
            return f"class {beyond[0]} is missing"
        if not worst <= allowed:  # a NaN is a difference, too
            return f"a score is off by {worst:.2g} (allowed {atol:g})"
        return None


def _columns(answer: Answer) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return answer.classes, answer.scores


def read_answers(path: Path, *, only: bool = False) -> dict[str, Answer]:
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
    answers: dict[str, Answer] = {}
    for number, line in enumerate(lines, 1):
        name, tab, text = line.partition("\t")
        answer = _answer(text) if tab else None
        if answer is None:
            if only and line.strip():
                raise DataError(f"{path}, line {number}: {line[:80]!r}; expected <name>TAB[[ids],[scores]]")
            continue
        if name in answers:
            raise DataError(f"{path}, line {number}: {name} comes twice")
        answers[name] = answer
    return answers


def _answer(text: str) -> Answer | None:
    try:
        answer = parse(text.encode(errors="replace"), "an answer")
        check({"answer": answer}, {"answer": many(many(any_number()), 2)}, "an answer")
        classes, scores = answer
    except DataError:
        return None
    whole = all(type(number) is int for number in classes)
    return Answer(tuple(classes), tuple(map(float, scores))) if whole and len(classes) == len(scores) else None


def disagreements(
    expected: Mapping[str, Answer], actual: Mapping[str, Answer], atol: float, names: Iterable[str] | None = None
) -> list[str]:
    """Return a sentence for every name (default: all that are expected) for which the two differ."""
    problems = []
    for name in expected if names is None else names:
        if name not in actual or name not in expected:
            where = "" if name not in actual else " among those expected"
            problems.append(f"{name}: no prediction{where}")
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
            raise DataError(f"{path} has no predictions; expected lines <name>TAB[[ids],[scores]]")
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
