"""What a report says of predictions beyond top-1 and top-5: calibration, confusion, two networks on the same images.

Pure functions of columns: an element for each image. Counts and sums come first; each number is divided once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenext.statistics import Z95

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
BINS = 15


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in (low, high]; the first bin has 0 as well."""

    low: float
    high: float
    images: int
    correct: int
    confidence_sum: float


def confidence_bins(confidence: Values, correct: Flags, bins: int = BINS) -> list[Bin]:
    """Return the counts of bins of equal width over 0 to 1, closed on the right as those of Guo et al. 2017.

    Args:
        confidence: [N] softmax probability of the best class.
        correct: [N] whether that class is the label.
    """
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    right = np.bincount(place[correct], minlength=bins)
    sums = np.bincount(place, weights=confidence, minlength=bins)
    return [
        Bin(float(edges[k]), float(edges[k + 1]), int(images[k]), int(right[k]), float(sums[k])) for k in range(bins)
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error (Naeini et al. 2015), 0 to 1.

    The mean over images of |accuracy - mean confidence| of their bin. A bin's share times its gap is
    |correct - sum of confidences| / N, so that the sums are divided once. None without images.
    """
    images = sum(one.images for one in bins)
    return sum(abs(one.correct - one.confidence_sum) for one in bins) / images if images else None


@dataclass(frozen=True)
class Confusion:
    """`images` of the class `label` were taken for `predicted`; `back` of `predicted` for `label`."""

    label: int
    predicted: int
    images: int
    back: int


def confusions(labels: Ids, predicted: Ids) -> list[Confusion]:
    """Return pairs of a class and another that it was taken for, the most frequent first, equal ones by class ids.

    Args:
        labels, predicted: [N] class ids, of images that could be read.
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    of = {(int(a), int(b)): int(count) for (a, b), count in zip(pairs, counts, strict=True)}
    confusions = [Confusion(a, b, count, of.get((b, a), 0)) for (a, b), count in of.items()]
    return sorted(confusions, key=lambda pair: (-pair.images, pair.label, pair.predicted))


def worst_mistakes(confidence: Values, correct: Flags, most: int) -> list[int]:
    """Return the places of the wrong images, the most confident first; equal ones in their order."""
    wrong = np.flatnonzero(~correct)
    order = np.argsort(-confidence[wrong], kind="stable")[:most]
    return [int(place) for place in wrong[order]]


@dataclass(frozen=True)
class Pair:
    """Two networks on the same images."""

    images: int
    both: int
    only_first: int  # correct by the first network alone
    only_second: int
    neither: int
    same_class: int  # the same best class, right or wrong

    @property
    def p_value(self) -> float:
        return mcnemar_exact(self.only_first, self.only_second)

    @property
    def difference_points(self) -> float:
        """Return the top-1 of the second minus that of the first."""
        return 100 * (self.only_second - self.only_first) / self.images


def paired(first: Ids, second: Ids, labels: Ids) -> Pair:
    """Count how two networks did on the same images.

    Args:
        first, second: [N] the best class of each, -1 for an image that it could not read.
        labels: [N]
    """
    one, two = first == labels, second == labels
    return Pair(
        images=len(labels),
        both=int((one & two).sum()),
        only_first=int((one & ~two).sum()),
        only_second=int((~one & two).sum()),
        neither=int((~one & ~two).sum()),
        same_class=int(((first == second) & (first >= 0)).sum()),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: the discordant images against a fair coin.

    min(1, 2 P(X <= the smaller count)) with X binomial (n, 1/2); the terms are summed relative to the largest of them.
    1 where no image is discordant.
    """
    images, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer == images:
        return 1.0
    tail = term = 1.0  # of the largest term, that of `fewer`
    for count in range(fewer, 0, -1):
        term *= count / (images - count + 1)
        tail += term
        if term < 1e-17 * tail:
            break
    choose = math.lgamma(images + 1) - math.lgamma(fewer + 1) - math.lgamma(images - fewer + 1)
    return min(1.0, 2 * math.exp(choose - images * math.log(2) + math.log(tail)))


def difference_interval_points(pair: Pair) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two top-1 on the same images, in points.

    Wald's with half an image added to each of the four counts (Agresti and Min 2005): it also has a width where no
    image is discordant.
    """
    first, second, images = pair.only_first + 0.5, pair.only_second + 0.5, pair.images + 2
    difference = second - first
    half = Z95 * math.sqrt(first + second - difference * difference / images)
    return 100 * (difference - half) / images, 100 * (difference + half) / images
