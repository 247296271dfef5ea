"""Classes of different sizes: weights of the loss, and epochs in which each class comes as often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


def weights_of_classes(kind: str, images: Sequence[int]) -> npt.NDArray[np.float32] | None:
    """Return the weight of each class in the loss [classes], or None where all count alike.

    Args:
        kind: ``none``; ``balanced``: all images / (classes * images of the class), as scikit-learn has it; or the
            weights, with commas.
        images: training images of each class; without any a class has the weight 1, which only smoothing meets.

    Raises:
        ValueError: another number of weights than of classes.
    """
    if kind == "none":
        return None
    if kind != "balanced":
        weights = np.array([float(weight) for weight in kind.split(",")], np.float32)
        if len(weights) != len(images):
            raise ValueError(f"{len(weights)} weights for {len(images)} classes")
        return weights
    counts = np.array(images, np.float64)
    present = counts > 0
    balanced = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)
    return balanced.astype(np.float32)


def balanced_order(labels: Labels, random: np.random.Generator) -> tuple[Labels, Labels]:
    """Return positions of as many images as there are, each class as often as the others, up to one; and their repeats.

    Within a class each image comes as often as the others, up to one. Classes without images are left out.

    Args:
        labels: of all images [N].
        random: decides the order, who is left out and who comes once more.

    Returns:
        Positions [N] in `labels`, in random order, and how often each image has come before in the epoch [N].
    """
    classes, sizes = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])  # positions of each class
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[random.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    positions, repeats = [], []
    for own, quota in zip(members, quotas, strict=True):
        rounds = -(-quota // len(own))
        drawn = [random.permutation(own) for _ in range(rounds)]
        positions.append(np.concatenate(drawn)[:quota] if drawn else own[:0])
        repeats.append(np.arange(quota) // len(own))
    order = random.permutation(len(labels))
    return np.concatenate(positions)[order], np.concatenate(repeats)[order]
