"""The priors of a detector: the boxes that its regressions move and scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.errors import UsageError
from mobilenext.models.detector_form import Form, find_form


def prior_boxes(form: str | Form | Mapping[str, Any]) -> Floats:
    """Return the priors of a form as float32 [P, 4]: center x, center y, width, height as fractions of the input.

    Their order is that of a network's outputs: level by level, row by row, cell by cell; in a cell the square of the
    smallest side, the square of the geometric mean of both sides, then for each ratio the wide and the high rectangle.
    All four numbers are clipped to 0..1, which makes the largest sides smaller and leaves the boxes' edges alone.

    Raises:
        UsageError: no such form.

    Source: the authors' PriorBox.
    """
    return _priors(find_form(form)).copy()


def check_shapes(scores: Sequence[int], regressions: Sequence[int], form: Form) -> None:
    """Refuse shapes that raw outputs of a network of this form cannot have.

    Raises:
        UsageError: other shapes than [N, P, classes + 1] and [N, P, 4].
    """
    fits = len(scores) == 3 and scores[1] == form.priors and scores[2] >= 2
    if not fits or tuple(regressions) != (*scores[:2], 4):
        raise UsageError(
            f"scores {list(scores)} and regressions {list(regressions)}; expected [N, {form.priors}, classes + 1] and "
            f"[N, {form.priors}, 4]: the form has {form.priors} priors"
        )


@lru_cache(maxsize=16)
def _priors(form: Form) -> Floats:
    levels = []
    for side, stride, (smallest, largest), ratios in zip(
        form.sides, form.strides, form.prior_sizes, form.ratios, strict=True
    ):
        middle = math.sqrt(smallest * largest)
        shapes = [(smallest, smallest), (middle, middle)]
        for ratio in ratios:
            root = math.sqrt(ratio)
            shapes += [(smallest * root, smallest / root), (smallest / root, smallest * root)]
        centers = (np.arange(side) + 0.5) * stride
        cells = np.empty((side, side, len(shapes), 4))  # rows, columns, priors of a cell
        cells[..., 0] = centers[None, :, None]
        cells[..., 1] = centers[:, None, None]
        cells[..., 2:] = shapes
        levels.append(cells.reshape(-1, 4))
    priors = np.concatenate(levels) / form.image_size  # [P, 4]
    return np.clip(priors, 0, 1).astype(np.float32)
