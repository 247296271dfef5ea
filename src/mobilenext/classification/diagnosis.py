"""Why a score may be low: labels that are shifted, permuted or of another class list; images of another size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobilenext.classification.metrics import Prediction

Integers = npt.NDArray[np.int64]
ENOUGH = 100  # images below which a score says nothing


def diagnose(rows: Sequence[Prediction], num_classes: int, size_remarks: Sequence[str] = ()) -> list[str]:
    """Return sentences that explain a near-random top-1; none when the score is plainly better than chance.

    A general permutation is learned on every other image of a class and tried on the rest, so that it cannot explain
    noise; that takes two images of a class.

    Args:
        rows: the predictions.
        num_classes: of the network.
        size_remarks: of `mobilenext.data.check.size_problems`, which are added where the labels explain nothing.
    """
    readable = [row for row in rows if row.top5]
    count = len(readable)
    if count < min(ENOUGH, 4 * num_classes):
        return []
    labels = np.array([row.label for row in readable])
    predicted = np.array([row.top5[0] for row in readable])
    correct = int((labels == predicted).sum())
    chance = count / num_classes
    near_chance = chance + 3 * math.sqrt(chance * (1 - 1 / num_classes)) + 0.01 * count  # binomial
    # With few images of few classes, chance reaches up to scores that deserve no suspicion.
    if correct > near_chance or near_chance > (chance + count) / 2:
        return []
    sentences = [f"top-1 is near random: {correct} of {count} images, where guessing gives about {chance:.0f}"]

    explained = max(3 * correct + 10, 2 * chance)
    for shift, meaning in ((-1, "labels run from 1, not from 0"), (1, "labels are one too low")):
        hits = int((labels + shift == predicted).sum())
        if hits > explained:
            sentences.append(f"{meaning}: with every label {shift:+d}, {hits} of {count} are right")
    by_name = np.array(sorted(range(num_classes), key=str))  # 0, 1, 10, 100, ..., 2, 20, ...
    hits = int((by_name[labels] == predicted).sum())
    if len(sentences) == 1 and hits > explained:
        sentences.append(f"class folders were sorted as text (1, 10, 2): undone, {hits} of {count} are right")

    if len(sentences) == 1:
        sentences += _permutation(labels, predicted, correct)
    distinct = len(np.unique(labels))
    if len(sentences) == 1 and distinct < num_classes / 2 and count >= 5 * num_classes:
        sentences.append(f"only {distinct} of the network's {num_classes} classes occur: another class list?")
    if len(sentences) == 1:
        sentences += size_remarks
        sentences.append(
            "no shift or permutation of the labels explains it: check that weights, model and preprocessing (size and "
            "crop, too) belong together, and that the images are what the list says"
        )
    return sentences


def _permutation(labels: Integers, predicted: Integers, correct: int) -> list[str]:
    """Return a sentence where the labels are a renaming of the network's classes.

    Args:
        labels, predicted: class ids [N].
        correct: the number of images where the two agree.
    """
    learned: dict[int, int] = {}
    hits = tried = 0
    for label in np.unique(labels):
        answers = predicted[labels == label]
        if len(answers) < 2:
            continue
        learned[int(label)] = int(np.bincount(answers[::2]).argmax())
        hits += int((answers[1::2] == learned[int(label)]).sum())
        tried += len(answers[1::2])
    distinct = len(set(learned.values()))
    # A network that answers one class for everything is no permutation.
    if tried < ENOUGH / 2 or hits < 0.2 * tried or distinct < 0.5 * len(learned) or hits <= 3 * correct / 2:
        return []
    moved = [f"{label} is the network's {mine}" for label, mine in learned.items() if label != mine]
    return [
        f"the labels are permuted: renamed, {100 * hits / tried:.0f} % of the images held back are right. The list's "
        + ", ".join(moved[:8])
        + (", ..." if len(moved) > 8 else "")
        + ". The list and the weights number the classes differently (for ImageNet: sorted synset ids, from 0)."
    ]
