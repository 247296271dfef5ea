"""Are the heat maps true? Hide the place that is said to matter and see what the score loses.

The deletion test in its plainest form (Samek et al., "Evaluating the visualization of what a deep neural network has
learned", 2017, and Petsiuk et al., RISE, 2018, delete step by step): of each image one square is replaced by the
preprocessing's mean colour, which is zero for the network, and the softmax score of the class that was first before is
taken again. What the score loses is compared, image by image, over squares of one size:

    hottest   around the centre of the hottest cell of this image's map
    other     around that of another image's map: the network's habits (objects are in the middle) without this image
    random    anywhere with equal probability, the mean of several
    coldest   around the centre of the coldest cell, where several are equally cold one of them by lot

A true map loses more at its hottest place than at each of the other three. A square that would reach over the edge is
moved inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.classification.metrics import softmax
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.errors import UsageError
from mobilenext.explanation.gradcam import Explainer, Heat
from mobilenext.statistics import Z95

if TYPE_CHECKING:
    from mobilenext.models.network import Network

CONTROLS = ("other", "random", "coldest")
RANDOM_SQUARES = 8  # for each image


def faithfulness(
    network: Network,
    preprocessing: Preprocessing,
    crops: Sequence[Pixels],
    *,
    block: int | str | None = None,
    sides: Sequence[int],
    seed: int = 0,
    predict: Callable[[Floats], Floats] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """What hiding a square costs the score, at the hottest place and elsewhere, over real images.

    Args:
        network: with its weights; set to evaluation mode.
        crops: two or more, uint8 [S, S, 3], as ``Preprocessing.pixels`` returns them.
        block: as for :class:`Explainer`.
        sides: of the square, in pixels.
        seed: of the random squares, and of which other image is taken.
        predict: normalised images to logits by the same network in a faster runtime; None is Paddle's eager one.
        progress: called with maps made and to make.

    Returns:
        For each side: ``loses``, the mean score lost in points (0 to 100), for each kind of square; ``hottest_minus``,
        for each control the paired differences: their ``mean``, its 95 % ``interval`` (normal), and ``images_above``,
        the share of images where the hottest lost more, of those where the two differ.

    Raises:
        UsageError: fewer than two images, a square that does not fit, or no such block.
    """
    size = preprocessing.image_size
    for side in sides:
        if not 1 <= side <= size:
            raise UsageError(f"a square of side {side} was asked for; expected 1 to {size}, the side of the image")
    if len(crops) < 2:
        raise UsageError(f"{len(crops)} images; expected two or more, since one lends its map to another")
    explainer = Explainer(network, preprocessing, block)
    maps: list[Heat] = []
    classes: list[int] = []
    for number, crop in enumerate(crops):
        explanation = explainer.explain(crop, topk=1)
        maps.append(explanation.map)
        classes.append(explanation.class_id)
        if progress:
            progress(number + 1, len(crops))
    return [
        _hide(preprocessing, crops, maps, classes, side, seed, predict or _eager(network)) | {"block": explainer.block}
        for side in sides
    ]


def _hide(
    preprocessing: Preprocessing,
    crops: Sequence[Pixels],
    maps: Sequence[Heat],
    classes: Sequence[int],
    side: int,
    seed: int,
    predict: Callable[[Floats], Floats],
) -> dict[str, Any]:
    """One row of :func:`faithfulness`."""
    size, count = preprocessing.image_size, len(crops)
    random = np.random.default_rng(seed)
    others = (np.arange(count) + random.integers(1, count, count)) % count  # never itself
    losses: dict[str, list[float]] = {kind: [] for kind in ("hottest", *CONTROLS)}
    before: list[float] = []
    equal = 0
    for number, crop in enumerate(crops):
        corners = [
            corner(maps[number], size, side, hottest=True, random=random),
            corner(maps[others[number]], size, side, hottest=True, random=random),
            corner(maps[number], size, side, hottest=False, random=random),
            *((int(top), int(left)) for top, left in random.integers(0, size - side + 1, (RANDOM_SQUARES, 2))),
        ]
        whole = preprocessing.normalize(crop)[None]  # [1, 3, S, S]
        batch = np.concatenate([whole, hidden(whole[0], corners, side)])
        scores = 100 * softmax(predict(batch))[:, classes[number]]  # [1 + squares], in points
        lost = scores[0] - scores[1:]
        before.append(float(scores[0]))
        for kind, value in zip(losses, (lost[0], lost[1], lost[3:].mean(), lost[2]), strict=True):
            losses[kind].append(float(value))
        equal += corners[0] == corners[1]
    hottest = np.array(losses["hottest"])
    return {
        "images": count,
        "map": list(maps[0].shape),
        "side": side,
        "hidden_percent_of_area": round(100 * side * side / (size * size), 2),
        "random_squares": RANDOM_SQUARES,
        "seed": seed,
        "without_heat": sum(not heat.any() for heat in maps),
        "other_at_the_same_place": int(equal),
        "score_before": _mean_of(before),
        "loses": {kind: _mean_of(values) for kind, values in losses.items()},
        "hottest_minus": {kind: _paired(hottest - np.array(losses[kind])) for kind in CONTROLS},
    }


def corner(small: Heat, size: int, side: int, *, hottest: bool, random: np.random.Generator) -> tuple[int, int]:
    """Top and left of the square around the centre of the hottest or coldest cell, inside an image of `size`."""
    wanted = small.max() if hottest else small.min()
    cells = np.argwhere(small == wanted)  # [cells, 2]
    cell = cells[random.integers(len(cells))] if len(cells) > 1 else cells[0]
    places = [(index + 0.5) / cells * size - side / 2 for index, cells in zip(cell, small.shape, strict=True)]
    top, left = (min(max(round(place), 0), size - side) for place in places)
    return top, left


def hidden(tensor: Floats, corners: Sequence[tuple[int, int]], side: int) -> Floats:
    """Copies of a normalised image [3, S, S], each with the square at one of the corners at zero: [N, 3, S, S]."""
    copies = np.repeat(tensor[None], len(corners), axis=0)
    for copy, (top, left) in zip(copies, corners, strict=True):
        copy[:, top : top + side, left : left + side] = 0
    return copies


def _eager(network: Network) -> Callable[[Floats], Floats]:
    from mobilenext.runtime.paddle_eager import forward

    return lambda batch: forward(network, batch)[0]


def _mean_of(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def _paired(differences: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Mean of paired differences with its normal 95 % interval."""
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    unequal = differences[np.abs(differences) > 1e-9]
    return {
        "mean": round(mean, 3),
        "interval": [round(mean - Z95 * error, 3), round(mean + Z95 * error, 3)],
        "images_above": round(float((unequal > 0).mean()), 4) if len(unequal) else None,
    }
