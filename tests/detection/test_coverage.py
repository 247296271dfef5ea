"""The share of boxes that priors can match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilenext.data.boxes import Box, BoxedDataset, BoxedImage
from mobilenext.detection.coverage import best_overlaps, coverage_lines, measure_coverage
from mobilenext.detection.priors import prior_boxes
from mobilenext.detection.recipes import parse_prior_sizes
from mobilenext.models.detector_form import FORMS, Form


def boxed(*boxes: tuple[tuple[float, float, float, float], int], size: int = 320) -> BoxedDataset:
    """Return one picture with boxes: corners and labels."""
    record = BoxedImage(0, "a.jpg", "a.jpg", size, size, tuple(Box(*box) for box in boxes), "a")
    return BoxedDataset(Path(), "voc", None, (record,), ("cell", "dot"), 1, ())


def test_the_best_overlap_is_that_of_all_priors(form: Form) -> None:
    random = np.random.default_rng(0)
    centers, sides = random.uniform(0, 1, (200, 2)), random.uniform(0.01, 1.2, (200, 2))
    corners = np.concatenate([centers - sides / 2, centers + sides / 2], 1)
    priors = prior_boxes(form).astype(np.float64)
    low, high = priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2
    inner = np.minimum(corners[:, None, 2:], high) - np.maximum(corners[:, None, :2], low)  # [K, P, 2]
    intersection = inner.clip(0).prod(2)
    union = sides.prod(1)[:, None] + priors[:, 2:].prod(1) - intersection
    np.testing.assert_allclose(best_overlaps(corners, form), (intersection / union).max(1), atol=1e-6)


@pytest.fixture(params=["voc", "coco", "larger"])
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS["voc"].replace(image_size=448) if request.param == "larger" else FORMS[request.param]


def test_squares_of_known_overlap() -> None:
    # In the middle of the cell at (24, 24), beside a prior of 45: 32 / 45 squared is 0.506, 31 / 45 squared 0.475.
    fitting, small = ((8, 8, 40, 40), 1), ((8.5, 8.5, 39.5, 39.5), 2)
    corners = np.array([fitting[0], small[0]]) / 320
    np.testing.assert_allclose(best_overlaps(corners, FORMS["voc"]), [32**2 / 45**2, 31**2 / 45**2])
    coverage = measure_coverage(boxed(fitting, small), FORMS["voc"])
    assert coverage is not None
    assert [(group.name, group.boxes, group.matched) for group in coverage.classes] == [("cell", 1, 1), ("dot", 1, 0)]
    assert [(group.name, group.boxes, group.matched) for group in coverage.sizes] == [
        ("16 to 32 px", 1, 0), ("32 to 64 px", 1, 1),
    ]  # fmt: skip
    assert coverage.to_dict()["classes"]["dot"] == {"boxes": 1, "matched_percent": 0.0}


def test_advice_names_sizes_that_match_more() -> None:
    dots = [((x - 12, x - 12, x + 12, x + 12), 2) for x in (24, 40, 72, 88, 200)]  # 24 px in the middle of cells
    cells = [((x - 30, x - 30, x + 30, x + 30), 1) for x in (100, 160, 250)]
    lines = coverage_lines(boxed(*dots, *cells), FORMS["voc"])
    assert "cell 100.0 % of 3, dot 0.0 % of 5" in lines[0]
    assert lines[2].startswith("dot: only 0.0 % of the boxes can be matched")
    assert "24 to 24 px large at the input, the smallest prior 45 px" in lines[2]
    sizes = lines[3].partition("--prior-sizes ")[2].partition(" ")[0]
    pairs = tuple(tuple(map(float, pair.split("-"))) for pair in sizes.split(","))
    advised = measure_coverage(boxed(*dots, *cells), FORMS["voc"].replace(prior_sizes=pairs))
    assert advised is not None
    assert [group.matched for group in advised.classes] == [3, 5]


def test_boxes_that_are_not_trained_on_do_not_count() -> None:
    record = BoxedImage(0, "a", "a", 320, 320, (Box((0, 0, 9, 9), 1, difficult=True),), "a")
    assert coverage_lines(BoxedDataset(Path(), "voc", None, (record,), ("cell",), 1, ()), FORMS["voc"]) == []


@pytest.mark.parametrize("image_size", [224, 320, 512])
@pytest.mark.parametrize(
    "pair", [(10, 11), (5, 5), (10, 12), (300, 320), (320, 320), (1e-3, 1e-3), (1e5, 1e5), (1e308, 1e308)]
)
def test_advice_is_given_for_every_valid_form(pair: tuple[float, float], image_size: int) -> None:
    """Also where the largest side of the first level is below the sides that are tried."""
    form = FORMS["voc"].replace(image_size=image_size, prior_sizes=(pair, *((90, 180),) * 5))
    dots = [((x - 12, x - 12, x + 12, x + 12), 2) for x in (24, 40, 72, 88, 200)]
    for candidate in (form, form.replace(prior_sizes=(pair,) * 6)):
        lines = coverage_lines(boxed(*dots), candidate)
        assert lines[2].startswith("dot: only 0.0 % of the boxes can be matched")
        sizes = lines[3].partition("--prior-sizes ")[2].partition(" ")[0]
        assert len(parse_prior_sizes(sizes)) == 6
