"""The names in a drawn cell, with the widths of letters and lines of a chart 290 pixels wide."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from mobilenext.search.cell_drawing import drawn_cell

OPERATORS = ("inverted_residual_3x3", "sandglass_3x3", "sep_conv_3x3", "skip_connect", "max_pool_3x3")


@pytest.mark.parametrize("seed", range(20))
def test_no_two_names_overlap(seed: int) -> None:
    draw = random.Random(seed)
    edges = [(draw.choice(OPERATORS), source) for node in range(4) for source in draw.sample(range(2 + node), 2)]
    chart = drawn_cell("normal", edges)
    *_, labels = chart.spec["layer"]
    names, encoding = labels["data"]["values"], labels["encoding"]
    assert [label["name"] for label in names] == [operator for operator, _ in edges]
    (left, right), (low, high) = (encoding[axis]["scale"]["domain"] for axis in "xy")
    boxes = []
    for label in names:
        across, up = (label["x"] - left) / (right - left) * 290, (label["y"] - low) / (high - low) * 340
        half = 5.5 * len(label["name"]) / 2  # pixels of a letter of 10 points, on average
        assert across - half >= 0
        assert across + half <= 290
        boxes.append((across - half, across + half, up - 5, up + 5))
    for one, other in combinations(boxes, 2):
        beside = one[1] <= other[0] or other[1] <= one[0]
        assert beside or one[3] <= other[2] or other[3] <= one[2]


@pytest.mark.parametrize("seed", range(20))
def test_no_name_hides_a_node(seed: int) -> None:
    draw = random.Random(seed)
    edges = [(draw.choice(OPERATORS), source) for node in range(4) for source in draw.sample(range(2 + node), 2)]
    _, _, nodes, *_, labels = drawn_cell("normal", edges).spec["layer"]
    (left, right), (low, high) = (labels["encoding"][axis]["scale"]["domain"] for axis in "xy")
    for label in labels["data"]["values"]:
        for node in nodes["data"]["values"]:
            across = abs(label["x"] - node["x"]) / (right - left) * 290
            up = abs(label["y"] - node["y"]) / (high - low) * 340
            assert across > 5.5 * len(label["name"]) / 2 or up > 5, (label["name"], node["name"])


def test_edges_of_one_operator_have_one_color() -> None:
    edges = [("skip_connect", 0), ("sep_conv_3x3", 1)] * 4
    _, lines, *_ = drawn_cell("reduce", edges).spec["layer"]
    assert len({(line["name"], line["color"]) for line in lines["data"]["values"]}) == 2
