"""The network, or one block of it, as an SVG that is drawn from its :mod:`anatomy`, or as a PNG of it for slides.

Light or dark as the reader has it; a PNG is light. All text is in a monospaced face whose width is known beforehand,
and columns are as wide as their longest text, so that no two texts can meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mobilenext.data.preprocessing import MAX_IMAGE_SIZE
from mobilenext.drawing.picture import check_suffix
from mobilenext.errors import UsageError
from mobilenext.explanation.anatomy import Anatomy, Part, Shape, Step, anatomy
from mobilenext.explanation.gradcam import block_position
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.models import DETECTION, build_network, find_model

TEXT = 13  # pixels
ADVANCE = 0.605  # width of a character over its size, of the widest of the faces below
GAP, MARGIN = 26, 24
PNG_SCALE = 2
DARK = """@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .page { fill: #0d1117; } .quiet { fill: #9198a1; } .line, .side { stroke: #9198a1; }
.head { fill: #9198a1; } .rule { stroke: #3d444d; }
.s1, .s2 { fill: #1d3a57; } .s4 { fill: #22507d; } .s8 { fill: #2d6ca6; }
.s16 { fill: #4a92d1; } .s32 { fill: #85bdec; }
}
"""
STYLE = """
svg { color-scheme: light dark; }
text { font-family: 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace; fill: #1f2328; }
.page { fill: #ffffff; } .quiet { fill: #59636e; } .line { stroke: #59636e; fill: none; stroke-width: 1.4; }
.head { fill: #59636e; } .rule { stroke: #d1d9e0; } .side { fill: none; stroke: #59636e; stroke-dasharray: 4 3; }
.s1, .s2 { fill: #cfe3f5; } .s4 { fill: #a3cbea; } .s8 { fill: #6fabdb; }
.s16 { fill: #3f86c4; } .s32 { fill: #215f9f; }
"""


def write_diagram(
    path: Path,
    *,
    model: str,
    num_classes: int = 1000,
    identity_divisor: int = 1,
    image_size: int = 224,
    block: int | str | None = None,
) -> Anatomy:
    """Draw a freshly initialized network, or one block of it.

    Args:
        path: a .svg, or a .png of twice its pixels.
        model: as in ``create_model``.
        block: by position or name of ``network.blocks()``; None is the whole network.

    Raises:
        UsageError: another suffix, an unknown model or block, or a size that the network cannot have.
        MissingDependency: a .png without vl-convert, which draws it.
        OutputError: it cannot be written.
    """
    check_suffix(path)
    if path.suffix == ".png":
        require(["vl_convert"], "explain", "a diagram as .png")
    if not 32 <= image_size <= MAX_IMAGE_SIZE:
        raise UsageError(f"image_size is {image_size}; expected 32, the largest stride, to {MAX_IMAGE_SIZE}")
    card = find_model(model)
    if card.task == DETECTION:
        raise UsageError(
            f"{card.name} is a detector, which no diagram draws; expected a classifier, such as its backbone "
            f"{card.arguments['backbone']}"
        )
    name = card.name
    network = build_network(name, num_classes=num_classes, identity_divisor=identity_divisor)
    chosen = None if block is None else network.blocks()[block_position(network, block, image_size)][0]
    seen = anatomy(network, image_size)
    if chosen is None:
        picture = network_svg(name, seen)
    else:
        picture = block_svg(name, seen, next(part for part in seen.parts if part.name == chosen))
    write_atomically(path, picture.encode() if path.suffix == ".svg" else _png(picture))
    return seen


def _png(picture: str) -> bytes:
    """Return an SVG of this module as a PNG in light colors."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(picture.replace(DARK, ""), scale=PNG_SCALE))


def network_svg(name: str, seen: Anatomy) -> str:
    """Return an SVG with a line for each part: its outline, channels, output, shortcut, parameters and mult-adds."""
    height, outline = 38, 190  # pixels, of a line and of the widest outline
    headings = ("part", "", "channels", "output", "shortcut", "parameters", "mult-adds")
    lines = [
        (
            part.name,
            part.kind + (f" / {part.stride}" if part.stride > 1 and part.kind != "mean, linear" else ""),
            chain(part.channels) if part.steps else "-",
            shape_text(part.after) if part.steps else "-",
            f"{part.shortcut} of {part.after[0]}" if part.shortcut else "-",
            f"{part.parameters:,}",
            f"{part.mult_adds:,}",
        )
        for part in seen.parts
    ]
    widths = [max(width_of(text) for text in column) for column in zip(headings, *lines, strict=True)]
    left = MARGIN + 34  # room for the arrows of the shortcuts
    starts = [left + outline + GAP + sum(widths[:index]) + index * GAP for index in range(len(widths))]
    top = 104
    width = math.ceil(starts[-1] + widths[-1] + MARGIN)
    bottom = top + height * len(lines) + 12
    body = _title(
        f"{name}, {seen.num_classes} classes, {seen.image_size} x {seen.image_size} pixels",
        f"{seen.parameters:,} parameters, {seen.mult_adds:,} mult-adds"
        + (f", identity divisor {seen.identity_divisor}" if seen.identity_divisor != 1 else ""),
    )
    for start, column, heading, own in zip(starts, range(len(headings)), headings, widths, strict=True):
        body.append(_text(start + (own if column > 4 else 0), top - 14, heading, "quiet", right=column > 4))
    body.append(f'<line class="rule" x1="{MARGIN}" y1="{top - 4}" x2="{width - MARGIN}" y2="{top - 4}"/>')
    largest = max(channels for part in seen.parts for channels in part.channels if part.name != "head")
    middle, stride = left + outline / 2, 1
    for index, (part, line) in enumerate(zip(seen.parts, lines, strict=True)):
        y = top + index * height
        if part.kind != "mean, linear" and part.steps:
            stride *= part.stride
            points = [outline / 2 * math.sqrt(channels / largest) for channels in part.channels]
            body.append(_outline(points, middle, y + 5, height - 10, f"s{stride}"))
            if part.shortcut:
                body.append(_arrow_round(middle - points[0], middle - points[-1], left - 16, y + 2.5, y + height - 2.5))
        for column, (start, text, own) in enumerate(zip(starts, line, widths, strict=True)):
            place = start + (own if column > 4 else 0)
            body.append(_text(place, y + height / 2 + TEXT * 0.36, text, "quiet" if column == 1 else "", column > 4))
    notes = [
        "Outlines: from top to bottom the channels after each convolution, as wide as their square root.",
        "Each color is a stride: 2, 4, 8, 16 and 32 pixels of the image for one of the map.",
        "Arrows: shortcuts, with the channels that they join. Mult-adds: multiply-accumulates of one image.",
    ]
    for note in notes:
        bottom += 20
        body.append(_text(MARGIN, bottom, note, "quiet"))
    width = max(width, math.ceil(2 * MARGIN + max(width_of(note) for note in notes)))
    return _svg(width, bottom + 20, body, f"{name}: {seen.parameters:,} parameters, {seen.mult_adds:,} mult-adds")


def block_svg(name: str, seen: Anatomy, part: Part) -> str:
    """Return an SVG of one part from top to bottom: the tensors with their shapes, and what turns one into the next."""
    drawing, height = 300, 52  # pixels, of the widest tensor and of one step
    left, top = MARGIN + 40, 104
    largest = max([part.before[0], *(max(step.before[0], step.after[0]) for step in part.steps)])
    middle = left + drawing / 2
    headings = ("", "parameters", "mult-adds")
    lines = [(_described(part, index), f"{step.parameters:,}", f"{step.mult_adds:,}") for index, step in
             enumerate(part.steps)]  # fmt: skip
    whole = part.shortcut == part.after[0]
    joined = f"all {part.shortcut}" if whole else f"its first {part.shortcut} of {part.after[0]}"
    plus = f"+ the input, {joined} channels"
    tensors = [shape_text(part.before), *(shape_text(step.after) for step in part.steps)]
    texts = [*(line[0] for line in lines), *tensors, *([plus] if part.shortcut else [])]
    first = max(width_of(text) for text in texts)
    others = [max(width_of(line[column]) for line in (headings, *lines)) for column in (1, 2)]
    text_x = left + drawing + GAP
    ends = [text_x + first + GAP + others[0], text_x + first + 2 * GAP + sum(others)]
    title = f"{name}, {part.name}: {part.kind}" + (f", stride {part.stride}" if part.stride > 1 else "")
    subtitle = f"{part.parameters:,} parameters, {part.mult_adds:,} mult-adds at {seen.image_size} x {seen.image_size}"
    body = _title(f"{title}", f"{subtitle} pixels")
    for heading, end in zip(headings[1:], ends, strict=True):
        body.append(_text(end, top - 14, heading, "quiet", right=True))

    def bar(shape: Shape, y: float) -> str:
        wide = max(3.0, drawing * shape[0] / largest)
        return f'<rect class="s16" x="{middle - wide / 2:.1f}" y="{y - 3:.1f}" width="{wide:.1f}" height="6" rx="2"/>'

    y = float(top + 6)
    body += [bar(part.before, y), _text(text_x, y + TEXT * 0.36, tensors[0])]
    for index, (step, line) in enumerate(zip(part.steps, lines, strict=True)):
        halves = [drawing / 2 * step.before[0] / largest, drawing / 2 * step.after[0] / largest]
        side = step.kind in ("squeeze", "excite")
        body.append(_outline(halves, middle, y + 5, height - 10, "side" if side else "s4"))
        centre = y + height / 2 + TEXT * 0.36
        body.append(_text(text_x, centre, line[0], "quiet"))
        body += [_text(end, centre, text, "quiet", right=True) for end, text in zip(ends, line[1:], strict=True)]
        y += height
        body += [bar(step.after, y), _text(text_x, y + TEXT * 0.36, tensors[index + 1])]
    if part.shortcut:
        y += 34
        body.append(_text(text_x, y + TEXT * 0.36, plus))
        body.append(f'<circle class="line" cx="{middle}" cy="{y}" r="10"/>')
        body.append(f'<path class="line" d="M{middle - 5} {y}H{middle + 5}M{middle} {y - 5}V{y + 5}"/>')
        body.append(_arrow(f"M{middle} {y - 30}V{y - 11}", middle, y - 11, "down"))
        edge, corner = middle - drawing / 2 * part.before[0] / largest, left - 26
        body.append(_arrow(f"M{edge - 4} {top + 6}H{corner}V{y}H{middle - 11}", middle - 11, y, "right"))
    width = math.ceil(max(ends[-1], MARGIN + width_of(title, 16), MARGIN + width_of(subtitle + " pixels")) + MARGIN)
    return _svg(width, y + 34, body, f"{title}: {subtitle} pixels")


def chain(channels: Sequence[int]) -> str:
    """Return the channels along the way as text, every change once."""
    changes = [number for index, number in enumerate(channels) if index == 0 or number != channels[index - 1]]
    return " > ".join(map(str, changes))


def shape_text(shape: Shape) -> str:
    return " x ".join(map(str, shape if shape[1:] != (1, 1) else shape[:1]))


def width_of(text: str, size: float = TEXT) -> float:
    """Return the most pixels that a text takes."""
    return len(text) * ADVANCE * size


def _described(part: Part, index: int) -> str:
    """Return the label of a step, with its input channels where some go round it."""
    step: Step = part.steps[index]
    label = step.label
    if step.kind == "excite":
        return f"{label}: a factor for each channel"
    channels = part.steps[index - 1].after[0] if index else part.before[0]
    return label if step.before[0] == channels else f"{label}; takes {step.before[0]}"


def _title(title: str, subtitle: str) -> list[str]:
    return [_text(MARGIN, 34, title, size=16), _text(MARGIN, 58, subtitle, "quiet")]


def _text(x: float, y: float, text: str, kind: str = "", right: bool = False, size: int = TEXT) -> str:
    look = f' class="{kind}"' if kind else ""
    anchor = ' text-anchor="end"' if right else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{look}{anchor}>{escape(text)}</text>' if text else ""


def _outline(halves: Sequence[float], middle: float, top: float, height: float, kind: str) -> str:
    """Draw a closed shape around `middle` with the half widths `halves` from top to bottom."""
    steps = max(len(halves) - 1, 1)
    down = [(middle - half, top + height * index / steps) for index, half in enumerate(halves)]
    points = [*down, *((2 * middle - x, y) for x, y in reversed(down))]
    return f'<polygon class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _arrow_round(start: float, end: float, left: float, top: float, bottom: float) -> str:
    """Draw an arrow from the left end of a shape's top, around the shape, to the left end of its bottom."""
    path = f"M{start:.1f} {top:.1f}H{left + 6:.1f}Q{left} {top} {left} {top + 6}V{bottom - 6}"
    return _arrow(f"{path}Q{left} {bottom} {left + 6} {bottom}H{end - 6:.1f}", round(end, 1), bottom, "right")


def _arrow(path: str, x: float, y: float, way: str) -> str:
    heads = {"right": f"{x},{y} {x - 7},{y - 3} {x - 7},{y + 3}", "down": f"{x},{y} {x - 4},{y - 7} {x + 4},{y - 7}"}
    return f'<path class="line" d="{path}"/><polygon class="head" points="{heads[way]}"/>'


def _svg(width: int, height: float, body: Sequence[str], description: str) -> str:
    """Return the whole SVG file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
            f'viewBox="0 0 {width} {height:.0f}" role="img">',
            f"<title>{escape(description)}</title>",
            f"<style>{STYLE}{DARK}</style>",
            f'<rect class="page" width="{width}" height="{height:.0f}"/>',
            *filter(None, body),
            "</svg>\n",
        ]
    )
