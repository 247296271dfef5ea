from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import mobilenext
from mobilenext.drawing.chart import PICK, TIP, axis, chart_spec, colored, unless_picked
from mobilenext.drawing.picture import LIGHT, panel, side_by_side, still, write_picture
from mobilenext.errors import MissingDependency, UsageError
from mobilenext.machine.packages import installed

VALUES = [{"run": "a", "x": 1, "y": 2, "tip": "1, 2"}, {"run": "b", "x": 2, "y": 1, "tip": "2, 1"}]


def chart() -> dict[str, object]:
    """Points that react to a pointer, as those of the page do."""
    encoding = {"x": axis("x", "across"), "y": axis("y", "up"), "color": colored(["a", "b"])}
    layer = {"params": PICK, "mark": "point", "encoding": {**encoding, "tooltip": TIP, "opacity": unless_picked(0.9)}}
    return chart_spec("two points", 200, data={"values": VALUES}, layer=[layer])


def test_the_colors_are_the_light_ones_of_the_page() -> None:
    css = (Path(mobilenext.__file__).parent / "report" / "assets" / "report.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--(\w+): light-dark\((#\w+),", css))
    assert LIGHT.items() <= light.items()
    assert all(f"c{place}" in LIGHT for place in range(1, 8))


def test_a_still_chart_reacts_to_nothing() -> None:
    text = json.dumps(still(chart()))
    for reaction in ("params", "tooltip", "condition", "picked"):
        assert reaction not in text
    assert still({"opacity": unless_picked(0.9)}) == {"opacity": {"value": 0.9}}


@pytest.mark.skipif(not installed("vl_convert"), reason="vl-convert is not installed (extra report)")
def test_panels_are_drawn(tmp_path: Path) -> None:
    spec = side_by_side([panel(chart(), 200, 100, "one"), panel(chart(), 200, 100, "other")], 2, "both")
    write_picture(spec, tmp_path / "a.svg", extra="report", purpose="a picture")
    drawing = (tmp_path / "a.svg").read_text()
    assert all(f">{text}<" in drawing for text in ("one", "other", "both", "across"))
    assert LIGHT["c2"] in drawing
    assert "var(--" not in drawing


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'a\.gif'; expected a name that ends in \.png or \.svg"):
        write_picture({}, tmp_path / "a.gif", extra="bench", purpose="a picture")
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda package: False)
    with pytest.raises(MissingDependency, match=r"a picture needs vl_convert, .*pip install 'mobilenext\[bench\]'"):
        write_picture({}, tmp_path / "a.png", extra="bench", purpose="a picture")
