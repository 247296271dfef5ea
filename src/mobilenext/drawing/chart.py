"""What all charts of the report page have in common.

A chart is a Vega-Lite specification: plain data that Vega draws in the browser as SVG. Colors are the page's CSS
variables, so that light, dark and print are one drawing. Each chart comes with the table of its values: what the
picture says can also be read, heard and copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COLORS = 7  # --c1 to --c7 of the style sheet
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name, never fetched


@dataclass(frozen=True)
class Chart:
    """A specification, what it shows in words, and its values as a table."""

    title: str
    description: str
    spec: dict[str, Any]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)
    note: str = ""  # why there is no drawing, where the specification is empty


def color(place: int) -> str:
    """Return the color of the run at `place`, as CSS."""
    return f"var(--c{place % COLORS + 1})"


def chart_spec(description: str, height: int, **parts: Any) -> dict[str, Any]:
    """Return a specification as wide as its place in the page and `height` pixels high, legend and all."""
    return {
        "$schema": SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "padding": {"left": 2, "right": 12, "top": 4, "bottom": 2},
        "autosize": {"type": "fit", "contains": "padding", "resize": True},
        **parts,
    }


def axis(name: str, title: str, **more: Any) -> dict[str, Any]:
    """Return the encoding of a number by its place; a linear scale need not begin at 0."""
    scale = more.pop("scale", {})
    scale = scale if scale.get("type") == "log" else {"zero": False} | scale
    return {"field": name, "type": "quantitative", "title": title, "scale": scale, **more}


def epochs(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encoding of the field ``epoch`` across, from a whole epoch to another, with up to 13 ticks."""
    low = math.floor(min((value["epoch"] for value in values), default=0))
    high = math.ceil(max((value["epoch"] for value in values), default=1))
    low = min(low, high - 1)
    step = next(step for step in _steps() if (high - low) / step <= 12)
    ticks = [at for at in range(low, high + 1) if at % step == 0]
    scale = {"domain": [low, high], "nice": False}
    return axis("epoch", "epoch", scale=scale, axis={"format": "d", "values": ticks})


def _steps() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50 and so on."""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


TIP = {"field": "tip", "type": "nominal"}
# A click on a name in the legend pales all others; a second one brings them back.
PICK = [{"name": "picked", "select": {"type": "point", "fields": ["run"]}, "bind": "legend"}]


def colored(names: Sequence[str], title: str | None = None, first: int = 0) -> dict[str, Any]:
    """Return the encoding of the field ``run`` by color, in the order of `names`, from the color `first` on."""
    return {
        "field": "run",
        "type": "nominal",
        "title": title,
        "scale": {"domain": list(names), "range": [color(first + place) for place in range(len(names))]},
        "legend": {"orient": "bottom", "columns": 1, "labelLimit": 300, "symbolOpacity": 1},
    }


def shaped(names: Sequence[str]) -> dict[str, Any]:
    """Return the same by shape, for those who cannot tell the colors apart."""
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(names))]
    return {**colored(names), "scale": {"domain": list(names), "range": shapes}}


def unless_picked(opacity: float) -> dict[str, Any]:
    """Return the encoding of an opacity that only what is picked in the legend keeps."""
    return {"condition": {"param": "picked", "value": opacity}, "value": 0.06}
