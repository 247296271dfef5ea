"""Turn logits into integer counts, and counts into numbers that are divided once.

Ranking rule: by logit, the largest first; equal logits by class id, the smallest first. Logits that are not finite
have no rank and are an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.errors import WeightsError
from mobilenext.json_files import Unfit, is_name, shown
from mobilenext.statistics import percent, wilson_percent

TOP = 5


@dataclass(frozen=True)
class Prediction:
    """The answer of the network for one image: one line of ``predictions.jsonl``."""

    index: int
    path: str
    label: int
    top5: tuple[int, ...]  # class ids, the best first; empty for an unreadable image
    scores: tuple[float, ...]  # their softmax probabilities
    loss: float | None  # cross-entropy of the label, in nats
    error: str | None = None  # why the image could not be read
    bytes: int | None = None  # size of the file

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "index": self.index,
            "path": self.path,
            "label": self.label,
            "top5": list(self.top5),
            "scores": list(self.scores),
            "loss": self.loss,
        }
        optional = {"error": self.error, "bytes": self.bytes}
        return values | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Prediction:
        """Invert :meth:`to_dict`; values from a file must have passed :func:`check_prediction`."""
        return cls(
            index=values["index"],
            path=values["path"],
            label=values["label"],
            top5=tuple(values["top5"]),
            scores=tuple(values["scores"]),
            loss=values["loss"],
            error=values.get("error"),
            bytes=values.get("bytes"),
        )


def check_prediction(row: Any, index: int, num_classes: int | None = None) -> None:
    """Check that a line of predictions from a file is that of image number `index`.

    The checks are written out, and not declared as those of other files: a report reads 50,000 lines.

    Raises:
        Unfit: a field is missing or is not what it should be.
    """
    if type(row) is not dict:
        raise Unfit(f"it is {shown(row)}; expected a record")
    try:
        path, label, top5, scores, loss = row["path"], row["label"], row["top5"], row["scores"], row["loss"]
        place, error, size = row["index"], row.get("error"), row.get("bytes")
    except KeyError as missing:
        raise Unfit(f"{missing.args[0]} is missing") from None
    if type(place) is not int or place != index:
        raise Unfit(f"index is {shown(place)}; expected {index}")
    if not is_name(path):
        raise Unfit(f"path is {shown(path)}; expected the name of a file")
    highest = num_classes or 1 << 31
    if type(label) is not int or not 0 <= label < highest:
        raise Unfit(f"label is {shown(label)}; expected a class from 0 to {highest - 1}")
    if (
        type(top5) is not list
        or len(top5) > TOP
        or not {int}.issuperset(map(type, top5))
        or (top5 and not 0 <= min(top5) <= max(top5) < highest)
    ):
        raise Unfit(f"top5 is {shown(top5)}; expected up to {TOP} classes from 0 to {highest - 1}")
    if (
        type(scores) is not list
        or len(scores) != len(top5)
        or not {float, int}.issuperset(map(type, scores))
        or (scores and not (min(scores) >= 0 and max(scores) <= 1 and sum(scores) <= TOP))  # no sum is with NaN
    ):
        raise Unfit(f"scores is {shown(scores)}; expected {len(top5)} probabilities from 0 to 1")
    if error is None:
        if not top5 or (type(loss) is not float and type(loss) is not int) or not 0 <= loss < 1e9:
            raise Unfit(f"top5 is {shown(top5)} and loss {shown(loss)}; expected classes, and a loss from 0 up")
    elif type(error) is not str or top5 or loss is not None:
        raise Unfit(f"error is {shown(error)}; expected text, and then neither classes nor a loss")
    if size is not None and (type(size) is not int or size < 0):
        raise Unfit(f"bytes is {shown(size)}; expected a whole number from 0 up")


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return probabilities [N, classes] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def ranked(logits: npt.NDArray[Any], k: int = TOP) -> npt.NDArray[np.int64]:
    """Return the `k` best class ids [N, k] by the ranking rule.

    Raises:
        WeightsError: a logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        raise WeightsError(
            f"the network's logits are not finite (first in row {row} of the batch): the weights are damaged, "
            "or do not belong to this model and preprocessing"
        )
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def predictions_of(
    logits: npt.NDArray[Any], indices: Iterable[int], paths: Iterable[str], labels: Iterable[int]
) -> list[Prediction]:
    """Return a :class:`Prediction` for each row of `logits` [N, classes].

    Raises:
        WeightsError: a logit is NaN or infinite.
    """
    best = ranked(logits)
    probabilities = softmax(logits)
    rows = []
    for row, (index, path, label) in enumerate(zip(indices, paths, labels, strict=True)):
        ids = tuple(int(value) for value in best[row])
        scores = tuple(round(float(probabilities[row, value]), 6) for value in ids)
        loss = -math.log(max(float(probabilities[row, label]), 1e-300))
        rows.append(Prediction(index, path, label, ids, scores, round(loss, 6)))
    return rows


@dataclass
class Counts:
    """Sums over predictions; nothing is divided before :meth:`summary`."""

    num_classes: int

    def __post_init__(self) -> None:
        self.images = self.top1 = self.top5 = self.unreadable = 0
        self.loss = 0.0
        self.by_class = np.zeros((self.num_classes, 3), np.int64)  # images, correct top-1, correct top-5
        self.predicted = np.zeros(self.num_classes, np.int64)  # images for which a class came first

    def add(self, row: Prediction) -> None:
        first, among = row.top5[:1] == (row.label,), row.label in row.top5
        self.images += 1
        self.top1 += first
        self.top5 += among
        self.by_class[row.label] += (1, first, among)
        if row.top5:
            self.predicted[row.top5[0]] += 1
        if row.loss is None:
            self.unreadable += 1
        else:
            self.loss += row.loss

    @property
    def correct(self) -> int:
        """Return the number of images whose best class is right."""
        return self.top1

    def to_bytes(self) -> bytes:
        """Return all sums as one vector of float64, which holds every count exactly."""
        by_class = (*self.by_class.flat, *self.predicted)
        return np.array([self.images, self.top1, self.top5, self.unreadable, self.loss, *by_class]).tobytes()

    def merge(self, parts: Sequence[bytes]) -> None:
        """Become the sum of `parts`, each the `to_bytes` of a process."""
        vector = np.sum([np.frombuffer(part) for part in parts], axis=0)
        self.images, self.top1, self.top5, self.unreadable = (int(value) for value in vector[:4])
        self.loss = float(vector[4])
        self.by_class = vector[5 : -self.num_classes].astype(np.int64).reshape(-1, 3)
        self.predicted = vector[-self.num_classes :].astype(np.int64)

    def scores(self) -> ClassScores:
        """Return recall, precision and F1 of each class."""
        return class_scores(self.by_class[:, 0], self.predicted, self.by_class[:, 1])

    def summary(self) -> dict[str, Any]:
        """Return counts, percentages, 95 % intervals and the loss, as they stand in ``result.json``."""
        readable = self.images - self.unreadable
        return {
            "images": self.images,
            "unreadable": self.unreadable,
            "correct_top1": self.top1,
            "correct_top5": self.top5,
            "top1_percent": percent(self.top1, self.images),
            "top5_percent": percent(self.top5, self.images),
            "top1_interval_percent": wilson_percent(self.top1, self.images),
            "top5_interval_percent": wilson_percent(self.top5, self.images),
            "loss": round(self.loss / readable, 6) if readable else None,
        }

    def per_class(self, labels: tuple[str, ...] | None) -> list[dict[str, Any]]:
        """Return a row for each class that has images: counts, top-1 percentage (recall), precision and F1."""
        scores = self.scores()
        return [
            {
                "class": number,
                **({"name": labels[number]} if labels else {}),
                "images": int(images),
                "correct_top1": int(top1),
                "correct_top5": int(top5),
                "predicted": int(self.predicted[number]),
                "top1_percent": percent(int(top1), int(images)),
                "precision_percent": round(100 * float(scores.precision[number]), 3),
                "f1_percent": round(100 * float(scores.f1[number]), 3),
            }
            for number, (images, top1, top5) in enumerate(self.by_class)
            if images
        ]


@dataclass(frozen=True)
class ClassScores:
    """Shares from 0 to 1 of each class [classes], NaN for a class without images, and their means over the others."""

    recall: npt.NDArray[np.float64]  # correct / images: the share of a class' images for which it comes first
    precision: npt.NDArray[np.float64]  # correct / predicted: the share of a class' predictions that is right, or 0
    f1: npt.NDArray[np.float64]  # the harmonic mean of the two: 2 * correct / (images + predicted)

    @property
    def mean_class_accuracy(self) -> float:
        """Return the mean recall, also called balanced accuracy or macro recall."""
        return float(np.nanmean(self.recall))

    @property
    def macro_precision(self) -> float:
        """Return the mean precision."""
        return float(np.nanmean(self.precision))

    @property
    def macro_f1(self) -> float:
        """Return the mean of the F1 scores, not the F1 of the means."""
        return float(np.nanmean(self.f1))

    def summary(self) -> dict[str, float]:
        """Return the three means in percent, to the thousandth."""
        return {
            "mean_class_accuracy_percent": round(100 * self.mean_class_accuracy, 3),
            "macro_precision_percent": round(100 * self.macro_precision, 3),
            "macro_f1_percent": round(100 * self.macro_f1, 3),
        }


def class_scores(images: npt.ArrayLike, predicted: npt.ArrayLike, correct: npt.ArrayLike) -> ClassScores:
    """Compute the scores of each class from its counts [classes].

    Args:
        images: that belong to the class, at least one of one class; an unreadable one counts here only.
        predicted: images for which the class came first.
        correct: images of the class for which it came first.
    """
    of_class, taken, right = (np.asarray(counts, np.float64) for counts in (images, predicted, correct))
    has_images = of_class > 0
    unknown = np.full(of_class.shape, np.nan)
    return ClassScores(
        recall=np.divide(right, of_class, out=unknown.copy(), where=has_images),
        precision=np.divide(right, np.maximum(taken, 1), out=unknown.copy(), where=has_images),
        f1=np.divide(2 * right, of_class + taken, out=unknown.copy(), where=has_images),
    )
