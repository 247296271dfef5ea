"""The predictions of an evaluation as columns, an element for each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mobilenext.classification.analysis import Flags, Ids, Values
from mobilenext.classification.metrics import TOP, ClassScores, Prediction, class_scores
from mobilenext.drawing.cells import shortened
from mobilenext.json_files import Unfit
from mobilenext.presentation import Reported


@dataclass(frozen=True)
class Answers(Reported):
    """One evaluation of a classification."""

    labels: Ids  # [N]
    best: Ids  # [N, 5] class ids, the best first; -1 where there are fewer, and for an unreadable image
    scores: Values  # [N, 5] their probabilities; 0 where there are none

    @cached_property
    def names(self) -> dict[int, str]:
        """Return class ids to names: of all classes or, in results of earlier versions, of those that occur."""
        if names := self.result.get("class_names"):
            return dict(enumerate(names))
        return {int(row["class"]): str(row["name"]) for row in self.result["per_class"] if row.get("name")}

    @cached_property
    def correct(self) -> Flags:
        """Return [N] whether the best class is the label."""
        return np.asarray(self.best[:, 0] == self.labels)

    @cached_property
    def readable(self) -> Flags:
        """Return [N] whether the image could be read."""
        return np.asarray(self.best[:, 0] >= 0)

    @cached_property
    def class_scores(self) -> tuple[Ids, ClassScores]:
        """Return the classes that occur as labels or answers, and their scores, counted on the predictions."""
        answers = self.best[self.readable, 0]
        classes = np.unique(np.concatenate([self.labels, answers]))
        counts = [
            np.bincount(np.searchsorted(classes, ids), minlength=len(classes))
            for ids in (self.labels, answers, self.labels[self.correct])
        ]
        return classes, class_scores(*counts)

    def class_name(self, class_id: int) -> str:
        """Return the name with the id, or the id alone; shortened where a name is a paragraph."""
        name = self.names.get(class_id)
        if name is None:
            return f"class {class_id}"
        return f"{shortened(name)} ({class_id})" if name != str(class_id) else name


def collect_answers(name: str, result: Mapping[str, Any], rows: Iterable[Prediction]) -> Answers:
    """Return the columns of an evaluation.

    Raises:
        Unfit: the counts of the rows are not those of the result.
    """
    images = result["images"]
    labels = np.zeros(images, np.int64)
    best = np.full((images, TOP), -1, np.int64)
    scores = np.zeros((images, TOP), np.float64)
    paths: list[str] = []
    errors: dict[int, str] = {}
    for row in rows:
        labels[row.index] = row.label
        best[row.index, : len(row.top5)] = row.top5
        scores[row.index, : len(row.top5)] = row.scores
        paths.append(row.path)
        if row.error is not None:
            errors[row.index] = row.error
    answers = Answers(name, result, paths, errors, labels, best, scores)
    _check_counts(answers)
    return answers


def _check_counts(answers: Answers) -> None:
    result, labels = answers.result, answers.labels
    among = int((answers.best == labels[:, None]).any(axis=1).sum())
    counts = len(answers.paths), int(answers.correct.sum()), among, len(answers.errors)
    expected = tuple(result[key] for key in ("images", "correct_top1", "correct_top5", "unreadable"))
    if counts != expected:
        raise Unfit(
            "{} images, {} correct top-1, {} top-5, {} unreadable".format(*counts)
            + "; expected {}, {}, {}, {}".format(*expected)
        )
    classes, sizes = np.unique(labels, return_counts=True)
    images_of = dict(zip(classes.tolist(), sizes.tolist(), strict=True))
    for row in result["per_class"]:
        if row["images"] != images_of.get(row["class"], 0):
            raise Unfit(f"{images_of.get(row['class'], 0)} images of class {row['class']}")
