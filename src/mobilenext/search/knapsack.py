"""Choose an item of each group: the most valuable choice that a budget allows (a multiple-choice knapsack).

The groups are taken one after the other. Of all partial choices only those are kept that no other partial choice beats
in cost and value at once (the Pareto front), and that can still end better than a choice that is known already. How
well a partial choice can end at most, with a budget B, is known from the Lagrangian for any rate L >= 0:

    value + L * (B - cost) + sum over the later groups of max(value of an item - L * cost of it)

So the result is exact for real costs, and the front stays short.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobilenext.errors import UsageError

Numbers = npt.NDArray[np.float64]
TOLERANCE = 1e-9  # of a sum of costs, relative to the budget: sums of decimal fractions are not exact
MOST_STATES = 2_000_000  # partial choices at a time, about 200 MB; measured costs need some thousands


def best_choice(values: Sequence[Numbers], costs: Sequence[Numbers], budget: float) -> tuple[int, ...] | None:
    """Return the position of the chosen item in each group; None where even the cheapest choice exceeds the budget.

    Of two choices of equal value the cheaper one is returned.

    Args:
        values: of each group's items, finite; their sum is maximized.
        costs: the same of their costs.
        budget: of the sum of the costs.

    Raises:
        UsageError: costs, which nobody has measured, that make too many different sums.
    """
    limit = budget + TOLERANCE * abs(budget)
    cheapest = tuple(int(np.lexsort((-value, cost))[0]) for value, cost in zip(values, costs, strict=True))
    if _total(costs, cheapest) > limit:
        return None
    rate, known = _rate(values, costs, limit, cheapest)
    # What the later groups add at most to the bound, and what they cost at least.
    bounds = _sums_of_later([np.max(value - rate * cost) for value, cost in zip(values, costs, strict=True)])
    least = _sums_of_later([np.min(cost) for cost in costs])
    slack = TOLERANCE * (1 + sum(float(np.abs(value).max()) for value in values))

    cost, value = np.zeros(1), np.zeros(1)  # of each partial choice: [states]
    steps: list[
        tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    ] = []  # its parent in the step before, its last item
    for group, (group_values, group_costs) in enumerate(zip(values, costs, strict=True)):
        if len(cost) * len(group_costs) > MOST_STATES:
            raise UsageError(f"these costs make more than {MOST_STATES:,} different sums; expected measured costs")
        items = len(group_costs)
        parent, item = np.divmod(np.arange(len(cost) * items), items)
        cost = cost[parent] + group_costs[item]
        value = value[parent] + group_values[item]
        best_end = value + rate * (limit - cost) + bounds[group]
        possible = np.flatnonzero((cost + least[group] <= limit) & (best_end >= known - slack))
        order = possible[np.lexsort((-value[possible], cost[possible]))]  # cheapest first, then the most valuable
        before = np.maximum.accumulate(np.concatenate([[-np.inf], value[order][:-1]]))
        front = order[value[order] > before]
        cost, value = cost[front], value[front]
        steps.append((parent[front], item[front]))

    state, chosen = int(np.argmax(value)), []
    for parent, item in reversed(steps):
        chosen.append(int(item[state]))
        state = int(parent[state])
    return tuple(reversed(chosen))


def _rate(
    values: Sequence[Numbers], costs: Sequence[Numbers], limit: float, cheapest: tuple[int, ...]
) -> tuple[float, float]:
    """Return the rate of the Lagrangian, near the one with the tightest bound, and the value of a choice in budget."""
    known = _total(values, cheapest)
    low, high = 0.0, 1.0

    def fits(rate: float) -> bool:
        nonlocal known
        choice = [int(np.lexsort((cost, -(value - rate * cost)))[0]) for value, cost in zip(values, costs, strict=True)]
        if _total(costs, choice) > limit:
            return False
        known = max(known, _total(values, choice))
        return True

    if fits(0.0):
        return 0.0, known
    for _ in range(100):
        if fits(high):
            break
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high, known


def _total(numbers: Sequence[Numbers], choice: Sequence[int]) -> float:
    return float(sum(group[item] for group, item in zip(numbers, choice, strict=True)))


def _sums_of_later(numbers: Sequence[float]) -> Numbers:
    """Return for each group the sum over those after it."""
    return np.concatenate([np.cumsum(np.asarray(numbers, np.float64)[::-1])[::-1][1:], [0.0]])
