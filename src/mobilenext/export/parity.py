"""Compare the outputs of two networks for the same images: Paddle's, and those of a file that was written from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mobilenext.arrays import Floats, Outputs
from mobilenext.runtime.self_check import ALLOWED_OF_STD, scale_of

BATCH = 3  # compared as well, besides one image at a time
ALLOWED = ALLOWED_OF_STD["fp32"]

# Compares the answers that a task reads from the outputs for N images, Paddle's first: fields of the parity, and a
# sentence if the answers differ by more than rounding, which may move an output by ALLOWED of its standard deviation.
Agreement: TypeAlias = Callable[[Outputs, Outputs], tuple[dict[str, Any], str | None]]


@dataclass(frozen=True)
class ImageOutputs:
    """The outputs of one network for N images."""

    names: tuple[str, ...]
    one_by_one: Outputs  # each [N, ...]
    in_threes: Outputs  # each [N // 3 * 3, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], predict: Callable[[Floats], Outputs], images: Floats) -> ImageOutputs:
        """Run normalized images [N, 3, S, S] through a network, one at a time and in threes; N is 3 or more."""
        whole = len(images) // BATCH * BATCH
        ones = [predict(images[start : start + 1]) for start in range(len(images))]
        threes = [predict(images[start : start + BATCH]) for start in range(0, whole, BATCH)]
        return cls(names, _joined(ones), _joined(threes))

    def deviations(self) -> dict[str, float]:
        """Return the standard deviation of each output."""
        return {name: float(output.std()) for name, output in zip(self.names, self.one_by_one, strict=True)}


class Counter:
    """Counts the images that run through networks, each by itself and in threes, for a bar of the progress."""

    def __init__(self, networks: int, images: int, progress: Callable[[int, int], None] | None) -> None:
        self._done, self._progress = 0, progress
        self._total = networks * (images + images // BATCH * BATCH)

    def counting(self, predict: Callable[[Floats], Outputs]) -> Callable[[Floats], Outputs]:
        """Return `predict`, which counts."""

        def counted(images: Floats) -> Outputs:
            outputs = predict(images)
            self._done += len(images)
            if self._progress:
                self._progress(self._done, self._total)
            return outputs

        return counted


def compare(expected: ImageOutputs, other: ImageOutputs, agreement: Agreement) -> tuple[dict[str, Any], str | None]:
    """Compare the outputs of a network with those of Paddle.

    Returns:
        The differences as they stand in the sidecar, and a sentence if they are more than rounding.
    """
    problem = None
    largest = largest_of_std = 0.0
    for index, name in enumerate(expected.names):
        pairs = [
            (part[index], reference[index])
            for part, reference in ((other.one_by_one, expected.one_by_one), (other.in_threes, expected.in_threes))
        ]
        for part, reference in pairs:
            if part.shape != reference.shape:
                return {}, f"{name} have the shape {list(part.shape)} instead of {list(reference.shape)}"
        worst = max(float(np.abs(part - reference).max()) for part, reference in pairs)
        scale = scale_of(expected.one_by_one[index])
        # Of an output that is all zeros nothing may differ.
        of_std = short(worst / scale) if scale else (0.0 if worst == 0 else math.inf)
        # In this order a NaN becomes the largest, and is a problem too.
        largest, largest_of_std = _larger(largest, worst), _larger(largest_of_std, of_std)
        if problem is None and not of_std <= ALLOWED:
            unit = "standard deviation" if expected.one_by_one[index].std() else "constant value"
            problem = f"{name} differ by {short(worst)} ({of_std} of their {unit}; allowed {ALLOWED})"
    fields, disagreement = agreement(expected.one_by_one, other.one_by_one)
    differences = {"largest_difference": short(largest), "largest_difference_of_std": largest_of_std, **fields}
    return differences, problem or disagreement


def short(value: float) -> float:
    """Round to three digits."""
    return float(f"{value:.3g}")


def _larger(one: float, other: float) -> float:
    return one if one >= other else other


def _joined(calls: list[Outputs]) -> Outputs:
    return tuple(np.concatenate(arrays) for arrays in zip(*calls, strict=True))
