"""Draw a result as a small picture of characters, for the end of a quickstart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mobilenext.classification.metrics import Prediction

MOST_CLASSES = 20  # that fit beside one another
SHADES, PLAIN_SHADES = " ░▒▓█", " .:+#"
_WIDTH = 30


def picture(rows: Iterable[Prediction], num_classes: int, encoding: str | None) -> list[str]:
    """Draw a confusion matrix, or with many classes a histogram of recalls.

    Args:
        rows: one for each image.
        num_classes: of the network.
        encoding: of the terminal; one without block characters gets ASCII.
    """
    shades = SHADES if _can_show(encoding) else PLAIN_SHADES
    answers = [(row.label, row.top5[0]) for row in rows if row.top5]
    if num_classes <= MOST_CLASSES:
        return _confusion(answers, num_classes, shades)
    return _histogram(answers, shades)


def _can_show(encoding: str | None) -> bool:
    try:
        SHADES.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _confusion(answers: list[tuple[int, int]], num_classes: int, shades: str) -> list[str]:
    """Draw a row for each label and a column for each answer; the darker a cell, the more of the label's images."""
    counts, images = Counter(answers), Counter(label for label, _ in answers)
    lines = ["label" + "".join(f"{answer:>3}" for answer in range(num_classes)) + "   right"]
    for label in range(num_classes):
        cells = []
        for answer in range(num_classes):
            share = counts[label, answer] / max(1, images[label])
            # Anything at all shows; full is full.
            level = 0 if not share else max(1, min(len(shades) - 2, round(share * (len(shades) - 1))))
            cells.append(" " + 2 * shades[-1 if share == 1 else level])
        lines.append(f"{label:>5}{''.join(cells)}   {counts[label, label]} of {images[label]}")
    return lines


def _histogram(answers: list[tuple[int, int]], shades: str) -> list[str]:
    """Draw the number of classes for each share of correct images."""
    images = Counter(label for label, _ in answers)
    right = Counter(label for label, answer in answers if label == answer)
    bins = Counter(min(9, 10 * right[label] // count) for label, count in images.items())
    most = max(bins.values(), default=1)
    lines = ["images right   classes"]
    for tenth in range(10):
        bar = shades[-1] * -(-bins[tenth] * _WIDTH // most)
        lines.append(f"{10 * tenth:>3} to {10 * tenth + 10:>3} %   {bins[tenth]:>4} {bar}".rstrip())
    return lines
