"""How many boxes some prior of a form can match, by class and by size, and what to change where there are few.

A prior matches a box where their IoU is 0.5 or more (`mobilenext.detection.matching`). A box that none matches is
trained by one prior alone, its best; a class of such boxes is hardly learned. The share is counted on the pictures as
they lie; augmentation moves boxes, and makes them larger and smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.data.boxes import BoxedDataset
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import LARGEST_SIZE, Form, PriorSizes

MATCHED = 0.5  # IoU
LOW = 0.8  # of the boxes of a class: below it there is advice
_EDGES = (16, 32, 64, 128)  # pixels of the input, between sizes of boxes
_MOST_BOXES = 20_000  # that other priors are tried on
_SMALLEST_SIDES = (12, 16, 20, 24, 28, 32, 36, 40)  # pixels of a 320-px input, of the priors that are tried
_LARGER_INPUTS = (416, LARGEST_SIZE)
_GAIN = 0.02  # of the mean share of the classes, for which a change is worth naming
_SHOWN = 10  # classes
_ADVISED = 3


@dataclass(frozen=True)
class Group:
    """Some of the boxes, and how many of them a prior can match."""

    name: str  # a class, or a range of sizes
    boxes: int
    matched: int

    @property
    def share(self) -> float:
        """Return the share that can be matched, 0 to 1."""
        return self.matched / self.boxes

    def __str__(self) -> str:
        return f"{self.name} {100 * self.share:.1f} % of {self.boxes:,}"


@dataclass(frozen=True)
class Coverage:
    """The boxes of a data set beside the priors of a form."""

    image_size: int
    classes: tuple[Group, ...]  # those with boxes, in the order of the labels
    sizes: tuple[Group, ...]  # by the side of a square of the same area, in pixels of the input
    advice: tuple[str, ...]  # for classes of which few can be matched

    def lines(self) -> list[str]:
        """Return it as sentences."""
        classes: Sequence[Group] = self.classes
        rest = ""
        if len(classes) > _SHOWN:
            classes = sorted(classes, key=lambda group: group.share)[:_SHOWN]
            rest = f"; the lowest of {len(self.classes)} classes"
        return [
            f"boxes that some prior can match (IoU {MATCHED:g}, input of {self.image_size} px): "
            f"{', '.join(map(str, classes))}{rest}",
            f"the same by the size of the boxes: {', '.join(map(str, self.sizes))}",
            *self.advice,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it, with shares in percent."""
        groups = {
            name: {g.name: {"boxes": g.boxes, "matched_percent": round(100 * g.share, 2)} for g in values}
            for name, values in (("classes", self.classes), ("sizes", self.sizes))
        }
        return {"image_size": self.image_size, **groups, "advice": list(self.advice)}


def coverage_lines(dataset: BoxedDataset, form: Form) -> list[str]:
    """Return sentences on the share of boxes that some prior can match, with advice where it is low."""
    coverage = measure_coverage(dataset, form)
    return coverage.lines() if coverage else []


def measure_coverage(dataset: BoxedDataset, form: Form) -> Coverage | None:
    """Return the shares of the boxes that are trained on; None where there is none."""
    corners, labels = _trained_boxes(dataset)
    if not len(labels):
        return None
    matched = best_overlaps(corners, form) >= MATCHED  # [K]
    names = dataset.class_names or ()
    classes = tuple(
        Group(names[label - 1], int(np.count_nonzero(labels == label)), int(np.count_nonzero(matched[labels == label])))
        for label in np.unique(labels)
    )
    sides = np.sqrt(_areas(corners)) * form.image_size  # [K] pixels
    sizes = np.digitize(sides, _EDGES)
    by_size = tuple(
        Group(_range(size), int(np.count_nonzero(sizes == size)), int(np.count_nonzero(matched[sizes == size])))
        for size in np.unique(sizes)
    )
    low = [group for group in classes if group.share < LOW]
    return Coverage(form.image_size, classes, by_size, tuple(_advice(corners, labels, names, low, form)) if low else ())


def best_overlaps(corners: Floats, form: Form) -> npt.NDArray[np.float64]:
    """Return the largest IoU [K] that a prior of the form has with each box.

    Of all priors of one shape the best is the one whose center is nearest on both axes, so one of each shape is tried.

    Args:
        corners: [K, 4] x1 y1 x2 y2 as fractions of the picture.
        form: of the detector.
    """
    boxes = np.asarray(corners, np.float64)
    best = np.zeros(len(boxes))
    for side, stride, pair, ratios in zip(form.sides, form.strides, form.prior_sizes, form.ratios, strict=True):
        step = stride / form.image_size
        cells = np.clip(np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 / step), 0, side - 1)  # [K, 2]
        centers = (cells + 0.5) * step
        for shape in _shapes(pair, ratios):
            half = np.minimum(np.array(shape) / form.image_size, 1) / 2  # [2]
            overlap = np.minimum(boxes[:, 2:], centers + half) - np.maximum(boxes[:, :2], centers - half)
            intersection = overlap.clip(0).prod(1)
            np.maximum(best, intersection / (_areas(boxes) + 4 * half.prod() - intersection), out=best)
    return best


def _shapes(pair: tuple[float, float], ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Return width and height of the priors in a cell, in pixels of the input."""
    smallest, middle = pair[0], math.sqrt(pair[0] * pair[1])
    roots = [math.sqrt(ratio) for ratio in ratios]
    wide = [(smallest * root, smallest / root) for root in roots]
    return [(smallest, smallest), (middle, middle), *wide, *((height, width) for width, height in wide)]


def _trained_boxes(dataset: BoxedDataset) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the boxes that are trained on as fractions of their pictures [K, 4], and their labels [K]."""
    corners, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
    for record in dataset.records:
        boxes, classes = record.trained_boxes()
        corners.append(boxes / np.array([record.width, record.height] * 2))
        labels.append(classes)
    return np.concatenate(corners), np.concatenate(labels)


def _areas(corners: npt.NDArray[Any]) -> npt.NDArray[Any]:
    areas: npt.NDArray[Any] = (corners[:, 2:] - corners[:, :2]).prod(1)
    return areas


def _range(size: int) -> str:
    """Return the name of the range number `size` between the edges."""
    if size == 0:
        return f"under {_EDGES[0]} px"
    return f"{_EDGES[size - 1]} to {_EDGES[size]} px" if size < len(_EDGES) else f"from {_EDGES[-1]} px"


# Advice.


def _advice(
    corners: Floats, labels: npt.NDArray[np.int64], names: Sequence[str], low: Sequence[Group], form: Form
) -> list[str]:
    """Return what the boxes of classes with a low share are like, and what would match more of them."""
    smallest_prior = min(smallest for smallest, _ in form.prior_sizes)
    sentences = []
    for group in sorted(low, key=lambda group: group.share)[:_ADVISED]:
        sides = np.sqrt(_areas(corners[labels == names.index(group.name) + 1])) * form.image_size
        small, large = np.percentile(sides, (5, 95))
        sentences.append(
            f"{group.name}: only {100 * group.share:.1f} % of the boxes can be matched, each of the others trains one "
            f"prior alone; most are {small:.0f} to {large:.0f} px large at the input, the smallest prior "
            f"{smallest_prior:.0f} px"
        )
    step = math.ceil(len(labels) / _MOST_BOXES)
    corners, labels = corners[::step], labels[::step]
    best = now = _mean_share(corners, labels, form)
    changes = []
    for size in (form.image_size, *(size for size in _LARGER_INPUTS if size > form.image_size)):
        try:
            resized = form.replace(image_size=size)
        except UsageError:  # priors so large that they cannot be scaled
            continue
        sizes, share = _best_sizes(corners, labels, resized)
        if share > best + _GAIN:
            best = share
            flags = f"--prior-sizes {','.join(f'{smallest:g}-{largest:g}' for smallest, largest in sizes)}"
            flags += f" --set image_size={size}" if size != form.image_size else ""
            changes.append(f"with {flags} {100 * share:.1f} %")
    if changes:
        sentences.append(f"on average over the classes, {100 * now:.1f} % can be matched; {', '.join(changes)}")
    return sentences


def _mean_share(corners: Floats, labels: npt.NDArray[np.int64], form: Form) -> float:
    """Return the mean over the classes of the share of boxes that can be matched."""
    matched = best_overlaps(corners, form) >= MATCHED
    return float(np.mean([matched[labels == label].mean() for label in np.unique(labels)]))


def _best_sizes(corners: Floats, labels: npt.NDArray[np.int64], form: Form) -> tuple[PriorSizes, float]:
    """Return the prior sizes, of those that are tried, that match the largest share, and that share."""
    best, best_share = form.prior_sizes, 0.0
    for sizes in _candidates(form):
        share = _mean_share(corners, labels, form.replace(prior_sizes=sizes))
        if share > best_share:
            best, best_share = sizes, share
    return best, best_share


def _candidates(form: Form) -> list[PriorSizes]:
    """Return other sizes: a smaller first level alone, and sides that grow by the same factor from level to level."""
    size, levels = form.image_size, len(form.prior_sizes)
    candidates: list[PriorSizes] = []
    for side in _SMALLEST_SIDES:
        smallest = round(side * size / 320)
        growth = (0.85 * size / smallest) ** (1 / (levels - 1))
        sides = [round(smallest * growth**level) for level in range(levels)] + [size]
        # The first level's own largest side may be below the side that is tried.
        candidates.append(((smallest, max(smallest, form.prior_sizes[0][1])), *form.prior_sizes[1:]))
        candidates.append(tuple((float(low), float(high)) for low, high in pairwise(sides)))
    return candidates
