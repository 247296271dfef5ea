"""The choice of an item in each group, against all choices there are."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenext.search.knapsack import best_choice

# Multiples of 1/16 have exact sums, so that nothing hangs on rounding; negative costs are allowed, too.
SIXTEENTHS = st.integers(-48, 160).map(lambda number: number / 16)
GROUPS = st.lists(st.lists(st.tuples(SIXTEENTHS, SIXTEENTHS), min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=300, deadline=None)
@given(GROUPS, st.integers(-200, 800).map(lambda number: number / 16))
def test_no_choice_within_the_budget_is_better(groups: list[list[tuple[float, float]]], budget: float) -> None:
    sums = [
        (sum(value for value, _ in choice), sum(cost for _, cost in choice)) for choice in itertools.product(*groups)
    ]
    possible = [(value, -cost) for value, cost in sums if cost <= budget]
    values = [np.array([value for value, _ in group]) for group in groups]
    costs = [np.array([cost for _, cost in group]) for group in groups]
    chosen = best_choice(values, costs, budget)
    if not possible:
        assert chosen is None
        return
    assert chosen is not None
    items = [group[item] for group, item in zip(groups, chosen, strict=True)]
    # The most valuable, and of those the cheapest.
    assert (sum(value for value, _ in items), -sum(cost for _, cost in items)) == max(possible)


def test_as_many_groups_as_a_network_has() -> None:
    """Costs that nearly follow the values, where many choices are nearly as good, take no time."""
    random = np.random.default_rng(0)
    sizes = [2, 2, 2, *[7] * 12]
    costs = [random.random(size) for size in sizes]
    values = [1.3 * cost + 0.01 * random.normal(size=len(cost)) for cost in costs]
    budget = 0.5 * sum(cost.max() for cost in costs)
    chosen = best_choice(values, costs, budget)
    assert chosen is not None
    assert sum(cost[item] for cost, item in zip(costs, chosen, strict=True)) <= budget
    total = sum(value[item] for value, item in zip(values, chosen, strict=True))
    # No exchange of two items makes it better.
    for first, second in itertools.combinations(range(len(sizes)), 2):
        for items in itertools.product(range(sizes[first]), range(sizes[second])):
            other = list(chosen)
            other[first], other[second] = items
            if sum(cost[item] for cost, item in zip(costs, other, strict=True)) <= budget:
                assert sum(value[item] for value, item in zip(values, other, strict=True)) <= total + 1e-12
