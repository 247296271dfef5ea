"""The diagrams say what the network is, and can be read."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from golden import GOLDENS
from mobilenext.errors import UsageError
from mobilenext.explanation.anatomy import anatomy
from mobilenext.explanation.diagram import ADVANCE, block_svg, network_svg, write_diagram
from mobilenext.machine.packages import installed
from mobilenext.models import build_network
from mobilenext.models.cards import paper_models
from mobilenext.models.counting import count

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[tuple[str, float, float, float, float]]:
    """Each text with its left, top, right and bottom."""
    found = []
    for element in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        content, size = element.text or "", float(element.get("font-size", 0))
        x, y, wide = float(element.get("x", 0)), float(element.get("y", 0)), len(content) * ADVANCE * size
        left = x - wide if element.get("text-anchor") == "end" else x
        found.append((content, left, y - 0.8 * size, left + wide, y + 0.25 * size))
    return found


def check_readable(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes = texts(picture)
    for index, (content, left, top, right, bottom) in enumerate(boxes):
        assert left >= 0, content
        assert top >= 0, content
        assert right <= width, content
        assert bottom <= height, content
        for other, left2, top2, right2, bottom2 in boxes[index + 1 :]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{content!r} and {other!r} meet"
    assert "prefers-color-scheme: dark" in picture


@pytest.mark.parametrize("model", sorted(paper_models()))
def test_numbers_are_those_of_counting(model: str) -> None:
    network = build_network(model)
    seen, counted = anatomy(network), count(network)
    assert network.training  # as it was
    assert seen.parameters == counted.parameters == sum(part.parameters for part in seen.parts)
    assert seen.mult_adds == counted.mult_adds == sum(part.mult_adds for part in seen.parts)
    picture = network_svg(model, seen)
    check_readable(picture)
    shown = [content for content, *_ in texts(picture)]
    assert f"{counted.parameters:,} parameters, {counted.mult_adds:,} mult-adds" in shown
    for part in seen.parts:
        assert {part.name, f"{part.parameters:,}", f"{part.mult_adds:,}"} <= set(shown)
        check_readable(block_svg(model, seen, part))
    recording = GOLDENS / f"{model.replace('x0_', 'x0.').replace('x1_', 'x1.')}.json"
    if recording.is_file():
        assert json.loads(recording.read_text())["params"] == seen.parameters


def test_a_block_of_every_kind() -> None:
    """Widths, strides and activations as the papers and the authors' code have them."""
    labels = {}
    for model, block in (
        ("mobilenext_x1_0", "features.4"),
        ("mobilenext_x1_0", "features.9"),
        ("mobilenext_l", "_blocks.5"),
        ("mobilenext_l_ghost", "_blocks.5"),
        ("mobilenetv2_x1_0", "features.2"),
    ):
        part = next(part for part in anatomy(build_network(model)).parts if part.name == block)
        labels[model, block] = (part.channels, part.shortcut, [step.label for step in part.steps])
    assert labels["mobilenext_x1_0", "features.4"] == (
        [192, 192, 32, 192, 192],
        192,
        ["3x3 depthwise, BN, ReLU6", "1x1 conv, BN, linear", "1x1 conv, BN, ReLU6", "3x3 depthwise, BN, linear"],
    )
    assert labels["mobilenext_x1_0", "features.9"] == (
        [288, 64, 384],
        0,
        ["1x1 conv, BN, linear", "1x1 conv, BN, ReLU6"],
    )
    assert labels["mobilenext_l", "_blocks.5"][2] == [
        "5x5 depthwise, BN, Swish",
        "1x1 conv, 2 groups, BN, linear",
        "1x1 conv, 2 groups, BN, Swish",
        "5x5 depthwise, BN, linear",
        "mean, 1x1, Swish",
        "1x1, sigmoid",
    ]
    assert labels["mobilenext_l_ghost", "_blocks.5"][0] == [192, 192, 32, 96, 192]  # half goes round
    assert labels["mobilenetv2_x1_0", "features.2"] == (
        [16, 96, 96, 24],
        0,
        ["1x1 conv, BN, ReLU6", "3x3 depthwise / 2, BN, ReLU6", "1x1 conv, BN, linear"],
    )


def test_the_partial_shortcut(tmp_path: Path) -> None:
    write_diagram(tmp_path / "block.svg", model="MobileNeXt_x1_0", identity_divisor=2, block="features.4")
    shown = [content for content, *_ in texts((tmp_path / "block.svg").read_text())]
    assert "+ the input, its first 96 of 192 channels" in shown


@pytest.mark.skipif(not installed("vl_convert"), reason="vl-convert is not installed (extra explain)")
def test_a_png_has_the_shapes_in_light_colors_at_twice_the_size(tmp_path: Path) -> None:
    for suffix in ("svg", "png"):
        write_diagram(tmp_path / f"block.{suffix}", model="mobilenext_x0_35", block="features.4")
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', (tmp_path / "block.svg").read_text())
    assert size is not None
    with Image.open(tmp_path / "block.png") as picture:
        assert picture.size == (2 * int(size[1]), 2 * int(size[2]))
        colors = {color[:3]: count for count, color in picture.convert("RGB").getcolors(1 << 24) or ()}
    assert max(colors, key=lambda color: colors[color]) == (255, 255, 255)
    assert colors.get((0xA3, 0xCB, 0xEA), 0) > 1000, "the outline is filled"


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a name that ends"):
        write_diagram(tmp_path / "a.gif", model="mobilenext_x1_0")
    with pytest.raises(UsageError, match="expected last, 0 to 20 or one of"):
        write_diagram(tmp_path / "a.svg", model="mobilenext_x1_0", block="99")
    with pytest.raises(UsageError, match="image_size is 8"):
        write_diagram(tmp_path / "a.svg", model="mobilenext_x1_0", image_size=8)


def test_the_command(mobilenext: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    out = tmp_path / "new" / "network.svg"
    done = mobilenext(
        "diagram", "--model", "mobilenext_x0_35", "--num-classes", 20, "--image-size", 64, "-o", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert f"{seen['mult_adds']:,} mult-adds" in out.read_text()
    assert seen["parts"][-1]["after"] == [20, 1, 1]
    assert re.search(r"20 classes, 64 x 64 pixels", out.read_text())
