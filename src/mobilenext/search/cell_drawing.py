"""The drawing of a cell: its two inputs on the left, the nodes from left to right, its output on the right.

Every edge has its operator's color and its operator's name, set where it covers no other name, and no dot of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mobilenext.drawing.chart import Chart, chart_spec, color
from mobilenext.models.genotype import INPUTS, NODES

_NAMES = ("older input", "newer input", *(f"node {number}" for number in range(NODES)), "output")
# Heights of the inputs and of the four nodes, by which no edge passes a node that it does not end in by less than an
# eighth of the chart: the best of 60,000 draws.
_HEIGHTS = (1.0, -1.0, 1.2, -0.6, 0.5, -1.0)
PLACES = [(0.0, 1.0), (0.0, -1.0)] + [(1.5 * (node + 1), _HEIGHTS[INPUTS + node]) for node in range(NODES)]
PLACES.append((1.5 * (NODES + 1), 0.0))
ACROSS, UP = (-1.4, 8.3), (-1.35, 1.45)  # what the chart shows, in the unit of the places
# A name is placed for the narrowest chart, that of a phone: in a wider one, names lie only further apart.
WIDTH, HEIGHT, LETTER, LINE, DOT = 290, 360, 5.6, 12, 14  # pixels
NAME_BEFORE_DOT = 10  # how much worse it is to cover a name
ROUNDS = 4
_SHARES = sorted((place / 40 for place in range(5, 36)), key=lambda share: abs(share - 0.5))  # where on an edge


@dataclass(frozen=True)
class Box:
    """A text in pixels of the narrowest chart."""

    x: float  # its middle
    y: float
    width: float

    def covers(self, other: Box) -> float:
        """Return the area in pixels that two texts share."""
        across = (self.width + other.width) / 2 - abs(self.x - other.x)
        return max(0.0, across) * max(0.0, LINE - abs(self.y - other.y))

    @property
    def outside(self) -> float:
        """Return by how many pixels the text leaves the chart."""
        return max(0.0, self.width / 2 - self.x, self.x + self.width / 2 - WIDTH)


def box_of(text: str, place: tuple[float, float], above: float = 0.0) -> Box:
    """Return the box of a text whose middle is `above` pixels over a place."""
    return _box(place, LETTER * len(text), above)


def _box(place: tuple[float, float], width: float, above: float = 0.0) -> Box:
    (left, right), (low, high) = ACROSS, UP
    x = (place[0] - left) / (right - left) * WIDTH
    return Box(x, (high - place[1]) / (high - low) * HEIGHT - above, width)


def drawn_cell(kind: str, edges: Sequence[tuple[str, int]]) -> Chart:
    """Return a drawing of a cell, ``normal`` or ``reduce``: nodes, and edges with their operators."""
    colors = {operator: color(place) for place, operator in enumerate(dict.fromkeys(name for name, _ in edges))}
    lines = []
    for place, (operator, source) in enumerate(edges):
        node = INPUTS + place // INPUTS
        (x, y), (x2, y2) = PLACES[source], PLACES[node]
        tip = f"{_NAMES[source]} to {_NAMES[node]}: {operator}"
        lines.append({"x": x, "y": y, "x2": x2, "y2": y2, "color": colors[operator], "name": operator, "tip": tip})
    outputs = [
        {"x": PLACES[node][0], "y": PLACES[node][1], "x2": PLACES[-1][0], "y2": PLACES[-1][1], "tip": "to the output"}
        for node in range(INPUTS, INPUTS + NODES)
    ]
    nodes = [{"x": x, "y": y, "name": name} for (x, y), name in zip(PLACES, _NAMES, strict=True)]
    text = f"The {kind} cell: each node is the sum of two operators; the output has all four nodes."
    rows = [
        [_NAMES[INPUTS + place // INPUTS], _NAMES[source], operator] for place, (operator, source) in enumerate(edges)
    ]
    title = {"normal": "The normal cell", "reduce": "The reduction cell"}[kind]
    spec = chart_spec(text, 370, layer=_layers(outputs, lines, nodes))
    return Chart(title, text, spec, ["node", "from", "operator"], rows)


def _layers(
    outputs: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]], nodes: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the layers: edges to the output, edges with operators, nodes, and the names of both."""
    position = {
        "x": {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": list(ACROSS)}},
        "y": {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": list(UP)}},
    }
    ends = {**position, "x2": {"field": "x2"}, "y2": {"field": "y2"}, "tooltip": {"field": "tip", "type": "nominal"}}
    own = {"color": {"field": "color", "type": "nominal", "scale": None}}
    name = {**position, "text": {"field": "name", "type": "nominal"}}
    halo = {"type": "text", "stroke": "var(--card)", "strokeWidth": 4, "strokeJoin": "round"}
    ink = {"type": "text", "color": "var(--ink)", "fontWeight": "bold", "dy": -16}
    labels = placed(lines)
    return [
        {"data": {"values": outputs}, "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.5}, "encoding": ends},
        {"data": {"values": lines}, "mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**ends, **own}},
        {
            "data": {"values": nodes},
            "mark": {"type": "point", "filled": True, "size": 160, "color": "var(--muted)", "opacity": 1},
            "encoding": position,
        },
        {"data": {"values": nodes}, "mark": {**halo, "fontWeight": "bold", "dy": -16}, "encoding": name},
        {"data": {"values": nodes}, "mark": ink, "encoding": name},
        {"data": {"values": labels}, "mark": {**halo, "fontSize": 10}, "encoding": name},
        {"data": {"values": labels}, "mark": {"type": "text", "fontSize": 10}, "encoding": {**name, **own}},
    ]


def placed(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the names of edges at the places on them where they cover least of the names before them."""
    names = [box_of(name, place, above=16) for name, place in zip(_NAMES, PLACES, strict=True)]
    dots = [_box(place, DOT) for place in PLACES]
    points: dict[int, tuple[float, float]] = {}
    boxes: dict[int, Box] = {}

    def covered(edge: int, place: tuple[float, float]) -> float:
        box = box_of(lines[edge]["name"], place)
        others = [other for number, other in boxes.items() if number != edge]
        of_names = sum(box.covers(other) for other in [*names, *others]) + 5 * LINE * box.outside
        return NAME_BEFORE_DOT * of_names + sum(box.covers(dot) for dot in dots)

    longest = sorted(range(len(lines)), key=lambda edge: -len(lines[edge]["name"]))
    for edge in longest * ROUNDS:  # the first round sets each name, the others move it away from those set later
        points[edge] = min(_candidates(lines[edge]), key=partial(covered, edge))
        boxes[edge] = box_of(lines[edge]["name"], points[edge])
    return [
        {"x": points[edge][0], "y": points[edge][1], "name": line["name"], "color": line["color"]}
        for edge, line in enumerate(lines)
    ]


def _candidates(line: dict[str, Any]) -> list[tuple[float, float]]:
    """Return places for the name of an edge: on it, else a line or two above or below; its middle first."""
    rise = LINE / HEIGHT * (UP[1] - UP[0])
    return [
        (line["x"] + share * (line["x2"] - line["x"]), line["y"] + share * (line["y2"] - line["y"]) + above * rise)
        for above in (0, 1, -1, 2, -2)
        for share in _SHARES
    ]
