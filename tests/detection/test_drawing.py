"""Boxes on pictures: where they are, that they are seen on every background, and what their texts say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mobilenext.detection.drawing import COLORS, FALSE, FOUND, MISSED, TRUTH, class_style, draw_boxes


def plain(size: tuple[int, int] = (300, 200), gray: int = 128) -> Image.Image:
    return Image.new("RGB", size, (gray, gray, gray))


def changed(image: Image.Image, drawn: Image.Image) -> npt.NDArray[np.bool_]:
    return (np.asarray(image.convert("RGB")) != np.asarray(drawn)).any(axis=2)


def luminance(color: npt.NDArray[np.float64]) -> float:
    """WCAG 2: the relative luminance of a color."""
    part = color / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_a_box_is_drawn_at_its_edge_and_the_picture_stays_as_it_is() -> None:
    image = plain()
    drawn = draw_boxes(image, [[50.2, 40.7, 150.0, 120.0]])
    rows, columns = np.nonzero(changed(image, drawn))
    assert (columns.min(), rows.min()) == (49, 39)
    assert (columns.max(), rows.max()) == (150, 120)
    assert not changed(image, drawn)[60:100, 60:140].any(), "the inside stays visible"
    assert np.asarray(image).min() == 128
    assert drawn.size == image.size


def contrast(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("gray", [0, 64, 128, 192, 255])
def test_every_style_is_seen_on_every_background(gray: int) -> None:
    """A line and its rim differ by what WCAG asks of graphics, 3; so one of them stands out from any background."""
    for style in [*map(class_style, range(1, 9)), TRUTH, FOUND, MISSED, FALSE]:
        drawn = np.asarray(draw_boxes(plain((60, 60), gray), [[10, 10, 50, 50]], styles=[style]))
        background, colors = np.full(3, float(gray)), np.unique(drawn.reshape(-1, 3), axis=0).astype(float)
        assert max(contrast(one, other) for one in colors for other in colors) >= 3, style
        assert max(contrast(color, background) for color in colors) >= 2, style


def test_what_is_outside_or_no_number_is_drawn_at_the_edge() -> None:
    image = plain()
    drawn = draw_boxes(image, [[-np.inf, -20, np.inf, 1e30], [np.nan, 0, 20, 20], [400, 10, 500, 50]], ["a", "b", "c"])
    assert changed(image, drawn)[[0, 199, 50, 50], [150, 150, 0, 299]].all()


def test_classes_have_colors_of_their_own_and_then_dashes() -> None:
    styles = [class_style(label) for label in range(1, 2 * len(COLORS) + 1)]
    assert len(set(styles)) == len(styles)
    assert not styles[0].dashed
    assert styles[len(COLORS)].dashed


def test_a_long_name_is_cut_and_its_score_is_not() -> None:
    """A name twice as long as the picture takes at most half of it; a picture that is tiny has room for the score."""
    image = plain((400, 200))
    drawn = draw_boxes(image, [[10, 100, 40, 150]], ["platelet " * 30], scores=[0.876])
    _, columns = np.nonzero(changed(image, drawn)[:99])
    assert 150 < columns.max() <= 10 + 200
    score = changed(image, draw_boxes(image, [[10, 100, 40, 150]], [""], scores=[0.876]))[:99].any(axis=0).sum()
    tiny = plain((50, 40))
    drawn_tiny = draw_boxes(tiny, [[20, 20, 25, 25]], ["platelet " * 30], scores=[0.876])
    assert changed(tiny, drawn_tiny).any(axis=0).sum() >= score


@pytest.mark.parametrize(("name", "instead"), [("血小板", "class 3"), ("café", "cafe"), ("RBC", "RBC")])
def test_a_name_that_the_font_lacks_loses_accents_or_becomes_its_number(name: str, instead: str) -> None:
    image, box = plain(), [[100, 100, 250, 150]]
    one, other = (np.asarray(draw_boxes(image, box, [text], labels=[3])) for text in (name, instead))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, np.asarray(draw_boxes(image, box, ["\u2f00"])))


def test_texts_of_equal_boxes_do_not_hide_each_other() -> None:
    image, box = plain(), [100, 80, 200, 130]
    one = changed(image, draw_boxes(image, [box], ["first"])).sum()
    both = changed(image, draw_boxes(image, [box, box], ["first", "first"])).sum()
    text = one - changed(image, draw_boxes(image, [box])).sum()
    assert both >= one + 0.8 * text


def test_no_boxes_are_a_copy_in_rgb() -> None:
    image = Image.new("L", (5, 3), 7)
    drawn = draw_boxes(image, np.zeros((0, 4)), [])
    assert drawn.mode == "RGB"
    assert np.asarray(drawn).tolist() == [[[7] * 3] * 5] * 3
    assert draw_boxes(Image.new("RGB", (1, 1)), [[0, 0, 1, 1]], ["x"], scores=[1.0]).size == (1, 1)


def test_every_box_needs_its_name() -> None:
    with pytest.raises(ValueError, match="2 boxes and 1 "):
        draw_boxes(plain(), [[0, 0, 9, 9]] * 2, ["a"])
