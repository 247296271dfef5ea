"""The picture of gradient confusion: distributions of the cosines, and their mean in each part of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.drawing.chart import axis, colored
from mobilenext.drawing.picture import panel, side_by_side

WIDTH, HEIGHT = 600, 330  # pixels of a panel
Kinds = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]  # rows by network and state


def confusion_picture(kinds: Kinds, bins: npt.NDArray[np.float64], everything: str) -> dict[str, Any]:
    """Return, for each state, the distribution of the cosines at the left and their means at the right, as Vega-Lite.

    Args:
        kinds: the rows of a result by network and state.
        bins: edges of the bins of the histograms, from -1 to 1.
        everything: the name of the group of all parameters.
    """
    names = {
        network: f"{network}, {rows[0]['parameters'] / 1e6:.2f} M parameters" for (network, _), rows in kinds.items()
    }
    panels = []
    for state in dict.fromkeys(state for _, state in kinds):
        title = f"{state}: cosines of the gradients, two images of different classes"
        panels.append(panel(_distributions(kinds, names, state, bins, everything), WIDTH, HEIGHT, title))
        title = f"{state}: their mean in each part of the network"
        panels.append(panel(_means(kinds, names, state, everything), WIDTH, HEIGHT, title))
    return side_by_side(panels, 2)


def _distributions(
    kinds: Kinds, names: Mapping[str, str], state: str, bins: npt.NDArray[np.float64], everything: str
) -> dict[str, Any]:
    """A thin line for each network of several, and a thick one for their mean."""
    middles = (bins[1:] + bins[:-1]) / 2
    single, means, occurring = [], [], np.zeros(len(middles))
    for network, rows in _of_state(kinds, state):
        counts = np.array([row["groups"][everything]["histogram"] for row in rows], float)  # [networks, bins]
        shares = 100 * counts / counts.sum(axis=1, keepdims=True)
        occurring += counts.sum(axis=0)
        means += _points(names[network], middles, shares.mean(axis=0))
        for number, share in enumerate(shares if len(rows) > 1 else ()):
            single += [point | {"row": f"{network} {number}"} for point in _points(names[network], middles, share)]
    x = axis("x", "cosine", scale={"domain": _range(occurring, bins)}, axis={"grid": False})
    encoding = {"x": x, "y": axis("y", "% of pairs"), "color": {**colored(list(names.values())), "legend": None}}
    line = {"type": "line", "clip": True}
    return {
        "layer": [
            {"data": {"values": [{"x": 0}]}, "mark": {"type": "rule", "color": "grey"}, "encoding": {"x": x}},
            {
                "data": {"values": single},
                "mark": {**line, "strokeWidth": 0.6, "opacity": 0.6},
                "encoding": {**encoding, "detail": {"field": "row"}},
            },
            {"data": {"values": means}, "mark": {**line, "strokeWidth": 2}, "encoding": encoding},
            *_labels(means, encoding["color"], top=True),
        ],
    }


def _labels(points: Sequence[Mapping[str, Any]], colors: Mapping[str, Any], *, top: bool) -> list[dict[str, Any]]:
    """Write the names of the networks in their colors where no line is: at the left, at the top or at the bottom."""
    names = list(dict.fromkeys(point["run"] for point in points))
    first = 14 if top else HEIGHT - 14 - 20 * (len(names) - 1)  # pixels
    return [
        {
            "data": {"values": [{"run": name}]},
            "mark": {"type": "text", "align": "left", "fontSize": 11, "fontWeight": 600},
            "encoding": {
                "x": {"value": 12}, "y": {"value": first + 20 * place}, "color": colors, "text": {"field": "run"},
            },
        }
        for place, name in enumerate(names)
    ]  # fmt: skip


def _means(kinds: Kinds, names: Mapping[str, str], state: str, everything: str) -> dict[str, Any]:
    """A small point for each network of several, and a line for their mean."""
    single, means = [], []
    groups: list[str] = []
    for network, rows in _of_state(kinds, state):
        groups = [group for group in rows[0]["groups"] if group != everything]
        values = np.array(
            [[row["groups"][group]["different_class"].get("mean", np.nan) for group in groups] for row in rows]
        )  # [networks, groups]
        means += _points(names[network], groups, values.mean(axis=0))
        for row in values if len(rows) > 1 else ():
            single += _points(names[network], groups, row)
    encoding = {
        "x": {"field": "x", "type": "nominal", "title": None, "sort": groups, "axis": {"labelAngle": 0}},
        "y": axis("y", "mean cosine"),
        "color": {**colored(list(names.values())), "legend": None},
    }
    zero = {"y": axis("y", "mean cosine")}
    return {
        "layer": [
            {"data": {"values": [{"y": 0}]}, "mark": {"type": "rule", "color": "grey"}, "encoding": zero},
            {"data": {"values": single}, "mark": {"type": "circle", "size": 20, "opacity": 0.6}, "encoding": encoding},
            {"data": {"values": means}, "mark": {"type": "line", "point": {"size": 60}}, "encoding": encoding},
            *_labels(means, encoding["color"], top=False),
        ],
    }


def _of_state(kinds: Kinds, state: str) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    return [(network, rows) for (network, other), rows in kinds.items() if other == state]


def _points(name: str, places: Sequence[Any] | npt.NDArray[Any], values: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """Rows of a chart's data; what is not a number is left out."""
    places = places.tolist() if isinstance(places, np.ndarray) else places
    return [
        {"run": name, "x": place, "y": value}
        for place, value in zip(places, values.tolist(), strict=True)
        if np.isfinite(value)
    ]


def _range(counts: npt.NDArray[Any], bins: npt.NDArray[np.float64]) -> list[float]:
    """The cosines that occur, and a little room."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return [-1.0, 1.0]
    return [max(-1.0, float(bins[filled[0]]) - 0.05), min(1.0, float(bins[filled[-1] + 1]) + 0.05)]
