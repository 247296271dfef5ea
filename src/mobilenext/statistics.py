"""Proportions in percent and their confidence intervals."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def percent(count: int, of: int) -> float:
    """Return 100 * count / of, to the thousandth."""
    return round(100 * count / of, 3)


def wilson_percent(count: int, of: int) -> list[float]:
    """Return Wilson's 95 % interval of a proportion (Wilson 1927): its two ends, in percent."""
    share, z2 = count / of, Z95**2
    center = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return [round(100 * (center - half), 3), round(100 * (center + half), 3)]
