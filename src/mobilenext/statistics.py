"""Proportions in percent, differences of means, and their confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def percent(count: int, of: int) -> float:
    """Return 100 * count / of, to the thousandth."""
    return round(100 * count / of, 3)


def percent_text(value: float) -> str:
    """Return a measured percentage as every table, page and line of the terminal shows it: with two digits."""
    return f"{value:.2f} %"


def wilson_percent(count: int, of: int) -> list[float]:
    """Return Wilson's 95 % interval of a proportion (Wilson 1927): its two ends, in percent."""
    share, z2 = count / of, Z95**2
    center = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return [round(100 * (center - half), 3), round(100 * (center + half), 3)]


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, list[float] | None, float | None]:
    """Return mean(first) - mean(second), its 95 % interval by Welch's t-test (1947), and the degrees of freedom.

    The last two are None when neither sample has any spread.
    """
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (first, second)]
    difference, variance = statistics.mean(first) - statistics.mean(second), sum(part for part, _ in parts)
    if variance == 0:
        return difference, None, None
    degrees = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    half = student_quantile(0.975, degrees) * math.sqrt(variance)
    return difference, [difference - half, difference + half], degrees


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, list[float] | None]:
    """Return the mean of first - second, pair by pair, and its 95 % interval by Student's t-test of the differences.

    The interval is None for a single pair, and where all differences are equal.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2 or statistics.variance(differences) == 0:
        return mean, None
    half = student_quantile(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, [mean - half, mean + half]


def student_quantile(probability: float, degrees: float) -> float:
    """Return the t below which Student's distribution has `probability`, from 1/2; 1 to 10 000 degrees of freedom.

    With t = sqrt(degrees) tan(angle) the density becomes cos(angle)^(degrees - 1), smooth on a bounded range: its
    integral from 0 by Simpson's rule, over the whole known from the gamma function, is bisected for the angle.
    """
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))  # -pi/2 to pi/2
    low, high, parts = 0.0, math.pi / 2, 200
    for _ in range(50):
        angle = (low + high) / 2
        heights = [math.cos(angle * place / parts) ** (degrees - 1) for place in range(parts + 1)]
        area = (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])) * angle / parts / 3
        low, high = (angle, high) if area < (probability - 0.5) * whole else (low, angle)
    return math.sqrt(degrees) * math.tan(low)
