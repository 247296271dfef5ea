"""Charts as picture files: the page's specifications without what only a reader with a mouse needs, in light colors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.drawing.chart import SCHEMA
from mobilenext.errors import UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require

SUFFIXES = (".png", ".svg")
LEGEND_COLUMNS = 4
# The light colors of the page (report/assets/report.css).
LIGHT = {
    "card": "#ffffff",
    "ink": "#1a1d23",
    "muted": "#57606d",
    "right": "#2f7fbf",
    "wrong": "#d0590b",
    "c1": "#005f99",
    "c2": "#d55e00",
    "c3": "#00805d",
    "c4": "#b4568c",
    "c5": "#3a9bd3",
    "c6": "#a87400",
    "c7": "#33373d",
}
_FONT = "DejaVu Sans, Verdana, sans-serif"
_CONFIG = {
    "font": _FONT,
    "axis": {"gridColor": "#dde1e6", "domainColor": "#57606d", "tickColor": "#57606d", "titleFontWeight": "normal"}
    | {"labelFontSize": 12, "titleFontSize": 13},
    "legend": {"labelFontSize": 13, "titleFontSize": 13, "labelLimit": 900},
    "title": {"fontSize": 15, "fontWeight": "normal", "subtitleFontSize": 12, "subtitleColor": "#57606d"},
    "view": {"stroke": None},
}


def check_suffix(path: Path) -> None:
    """Raise UsageError for a picture that is neither .png nor .svg."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the picture is called {path.name!r}; expected a name that ends in {' or '.join(SUFFIXES)}")


def still(spec: Any) -> Any:
    """Return a specification without its reactions to a pointer, as if nothing were picked, and with wide legends."""
    if isinstance(spec, Mapping):
        condition = spec.get("condition")
        if isinstance(condition, Mapping) and "param" in condition:
            return {"value": condition["value"]}
        wide = {"columns": LEGEND_COLUMNS} if "columns" in spec and "orient" in spec else {}
        return {name: still(value) for name, value in spec.items() if name not in ("params", "tooltip")} | wide
    return [still(value) for value in spec] if isinstance(spec, list | tuple) else spec


def panel(spec: Mapping[str, Any], width: int, height: int, title: str) -> dict[str, Any]:
    """Return a chart of the page as one of several in a picture, `width` times `height` pixels inside its axes."""
    parts = {name: value for name, value in still(spec).items() if name in ("data", "layer", "mark", "encoding")}
    return {"title": title, "width": width, "height": height, **parts}


def side_by_side(panels: Sequence[Mapping[str, Any]], columns: int, title: str = "", **resolve: Any) -> dict[str, Any]:
    """Return a picture of several panels, `columns` in a row.

    Args:
        panels: of `panel`.
        columns: of the picture.
        title: above all panels.
        resolve: as Vega-Lite has it, such as one scale of colors for all panels.
    """
    heading = {"title": {"text": title, "anchor": "middle", "offset": 14, "fontSize": 18}} if title else {}
    return {
        "$schema": SCHEMA,
        **heading,
        "background": "white",
        "padding": 12,
        "columns": columns,
        "concat": list(panels),
        "spacing": 30,
        "resolve": resolve,
    }


def write_picture(spec: Mapping[str, Any], path: Path, *, extra: str, purpose: str) -> None:
    """Draw a specification as .png or .svg.

    Args:
        spec: Vega-Lite; the page's colors may stand in it as ``var(--c1)``.
        path: of the picture.
        extra: of this package, that brings the library.
        purpose: begins the message where the library is missing.

    Raises:
        MissingDependency: vl-convert is not installed.
        UsageError: another kind of picture.
        OutputError: it cannot be written.
    """
    check_suffix(path)
    require(["vl_convert"], extra, purpose)
    import vl_convert

    colored = re.sub(r"var\(--(\w+)\)", lambda match: LIGHT[match[1]], json.dumps(spec))
    if path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(colored, config=_CONFIG).encode()
    else:
        content = vl_convert.vegalite_to_png(colored, config=_CONFIG)
    write_atomically(path, content)
