"""Grad-CAM: where in an image the score of a class comes from.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017
(arXiv 1610.02391), equations 1 and 2. With A [K, h, w] the map that a block puts out and y_c the logit of class c:

    alpha [K]     = mean over the h * w places of  d y_c / d A      how much channel k raises the score
    L     [h, w]  = ReLU(sum over k of  alpha_k * A_k)              what speaks for the class, and nothing against it
    heat  [h, w]  = L / max(L), or zero everywhere where L is

Only the average pool and the linear layer follow the last block's map: there alpha is that layer's column / (h * w),
and the heat map is the older CAM (Zhou et al., CVPR 2016).

From a program, with a network that is open already (x1.0 at 224 pixels takes tens of milliseconds):

    explainer = Explainer(network, preprocessing)           # at 224 pixels the last block
    explanation = explainer.explain(pixels)                 # uint8 [S, S, 3]; class_id=None: the first of its classes
    explanation.heat                                        # float32 [S, S] from 0 to 1
    heat_map(network, preprocessing, image, class_id)       # float32 [H, W] on the pixels of a whole PIL image
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenext.classification.metrics import ranked, softmax
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.errors import UsageError, nearest

if TYPE_CHECKING:
    from PIL import Image

    from mobilenext.models.network import Network

Heat = npt.NDArray[np.float32]
CELLS = 7  # on a side, of the map that is explained when no block is named: that of the last block at 224 pixels
Points = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the network says of one crop, and which places of it speak for one class."""

    classes: tuple[int, ...]  # the best ones, best first
    scores: tuple[float, ...]  # of these, by softmax
    class_id: int  # the class that is explained
    score: float  # of that class, by softmax
    heat: Heat  # float32 [S, S] on the pixels of the crop, from 0 to 1
    map: Heat  # float32 [h, w], the same at the block's resolution
    peak: float  # what a heat of 1 stands for, in logits; 0 where nothing speaks for the class
    block: str


class Explainer:
    """Grad-CAM of one network at one block. Sets the network to evaluation mode; keeps no state between calls."""

    def __init__(self, network: Network, preprocessing: Preprocessing, block: int | str | None = None) -> None:
        """Choose the block.

        Args:
            network: of ``create_model`` or ``network_of``.
            preprocessing: the one that belongs to its weights.
            block: whose map is explained, by position or name of ``network.blocks()``; ``last``; or None, for the last
                whose map has seven cells or more on a side: the very last at 224 pixels, an earlier one at 64.

        Raises:
            UsageError: a network without its head, or no such block; the message lists the blocks.
        """
        if network.outputs != ("logits",):
            raise UsageError(
                f"a network with the outputs {' and '.join(network.outputs)} has no score of an image to explain; "
                "expected a classifier"
            )
        if network.features_only:
            raise UsageError("this network has lost its head (features_only): there is no score to explain")
        network.eval()
        self.network = network
        self.preprocessing = preprocessing
        self.position = block_position(network, block, preprocessing.image_size)
        self.block = network.blocks()[self.position][0]

    def explain(self, pixels: Pixels, class_id: int | None = None, *, topk: int = 5) -> Explanation:
        """Explain one crop.

        Args:
            pixels: uint8 [S, S, 3], as ``Preprocessing.pixels`` returns it (another S works too).
            class_id: None is the class that the network puts first.
            topk: the number of ``classes`` and ``scores``, at most as many as the network has.

        Raises:
            UsageError: pixels of another type or shape, or a class that the network does not have.
        """
        import paddle

        from mobilenext.models.network import map_of

        self.check_class(class_id)
        if pixels.ndim != 3:
            raise UsageError(f"pixels are {list(pixels.shape)}; expected one crop, uint8 [S, S, 3]")
        blocks = [layer for _, layer in self.network.blocks()]
        with paddle.no_grad():
            x = self.network.stem(paddle.to_tensor(self.preprocessing.normalize(pixels)[None]))  # [1, 3, S, S]
            for layer in blocks[: self.position + 1]:
                x = layer(x)
        with paddle.set_grad_enabled(True):
            activation = map_of(x).detach()  # [1, K, h, w], where the graph begins: what lies below needs no gradient
            activation.stop_gradient = False
            x = (activation, *x[1:]) if isinstance(x, tuple) else activation
            for layer in blocks[self.position + 1 :]:
                x = layer(x)
            logits = self.network.head(map_of(x))  # [1, classes]
            values = logits.detach().numpy()
            best = [int(number) for number in ranked(values, topk)[0]]
            explained = best[0] if class_id is None else int(class_id)
            (gradient,) = paddle.grad(logits[0, explained], activation)  # [1, K, h, w]
        alpha = gradient.numpy()[0].mean(axis=(1, 2))  # [K]
        weighted = np.tensordot(alpha, activation.detach().numpy()[0], axes=1)  # [K] x [K, h, w] -> [h, w]
        peak = max(0.0, float(weighted.max()))
        small = (np.maximum(weighted, 0) / (peak or 1.0)).astype(np.float32)  # [h, w]
        scores = softmax(values)[0]
        height, width = pixels.shape[:2]
        return Explanation(
            classes=tuple(best),
            scores=tuple(float(scores[number]) for number in best),
            class_id=explained,
            score=float(scores[explained]),
            heat=enlarged(small, np.arange(height) + 0.5, np.arange(width) + 0.5, (height, width)),
            map=small,
            peak=peak,
            block=self.block,
        )

    def check_class(self, class_id: int | None) -> None:
        """Raise UsageError for a class that the network does not have."""
        number = self.network.num_classes
        if class_id is not None and not 0 <= class_id < number:
            raise UsageError(f"class {class_id} was asked for; this network has the classes 0 to {number - 1}")


def heat_map(
    network: Network,
    preprocessing: Preprocessing,
    image: Image.Image,
    class_id: int | None = None,
    *,
    block: int | str | None = None,
) -> Heat:
    """Return Grad-CAM on the pixels of a whole image: float32 [height, width] from 0 to 1, zero outside the crop.

    Args:
        network: open already; set to evaluation mode.
        preprocessing: the one that belongs to its weights.
        image: of mode "RGB" and any size, upright (``read_image(path, apply_orientation=True)``).
        class_id: None is the class that the network puts first.
        block: as for :class:`Explainer`.

    Raises:
        UsageError: another mode, or no such class or block. ImageError: too narrow an image.
    """
    explanation = Explainer(network, preprocessing, block).explain(preprocessing.pixels(image), class_id)
    return on_image(explanation.map, preprocessing, image.size)


def block_position(network: Network, block: int | str | None, image_size: int) -> int:
    """Return the position in ``network.blocks()`` of a block by position, name or position as text.

    ``last`` is the last. None is the last whose map has `CELLS` on a side or more: of images of 64 pixels the last map
    has 2 x 2, and where its cells are says nothing about where in the image something is (docs/explanations.md). Of a
    network without a pyramid, None is the last.

    Raises:
        UsageError: no such block; the message lists them.
    """
    names = [name for name, _ in network.blocks()]
    if block is None and not network.features_info:
        return len(names) - 1
    if block is None:
        fine = [feature.block for feature in network.features_info if -(-image_size // feature.stride) >= CELLS]
        return max(fine) if fine else network.features_info[0].block
    if block == "last":
        return len(names) - 1
    if isinstance(block, str) and not block.isdecimal():
        if block in names:
            return names.index(block)
    elif 0 <= int(block) < len(names):
        return int(block)
    raise UsageError(
        f"block {block!r} was asked for; expected last, 0 to {len(names) - 1} or one of {', '.join(names)}"
        f"{nearest(str(block), names)}"
    )


def crop_box(preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the crop, in pixels of an image of `size` (width, height)."""
    width, height = size
    (resized_width, resized_height), (left, top) = preprocessing.placement(width, height)
    side = preprocessing.image_size
    x, y = width / resized_width, height / resized_height  # pixels of the image for one of the crop
    return left * x, top * y, (left + side) * x, (top + side) * y


def on_image(small: Heat, preprocessing: Preprocessing, size: tuple[int, int], zoom: int = 1) -> Heat:
    """Return a map [h, w] of the crop on the image of `size` (width, height) around it: float32 [height, width].

    Zero where the crop does not reach. With `zoom`, that many points for each pixel in each direction.
    """
    left, top, right, bottom = crop_box(preprocessing, size)
    width, height = size
    down, across = ((np.arange(length * zoom) + 0.5) / zoom - start for length, start in ((height, top), (width, left)))
    return enlarged(small, down, across, (bottom - top, right - left))


def enlarged(small: Heat, down: Points, across: Points, extent: tuple[float, float]) -> Heat:
    """Stretch `small` [h, w] over `extent` (height, width), and return it at points `down` [H], `across` [W]: [H, W].

    Bilinear between the centers of its cells, constant beyond the outermost centers, zero outside the extent.
    """
    rows, columns = _interpolation(down, extent[0], small.shape[0]), _interpolation(across, extent[1], small.shape[1])
    return np.clip(rows @ small @ columns.T, 0, 1).astype(np.float32)  # [H, h] x [h, w] x [w, W]


def _interpolation(points: Points, extent: float, cells: int) -> Points:
    """Return the weight of each of the `cells` that share `extent` at each of the points: [points, cells]."""
    place = np.clip(points / extent * cells - 0.5, 0, cells - 1)  # in cells, from the first one's centre
    below = np.minimum(place.astype(int), max(cells - 2, 0))
    weights = np.zeros((len(points), cells))
    rows = np.arange(len(points))
    weights[rows, below] = 1 - (place - below)
    if cells > 1:
        weights[rows, below + 1] = place - below
    weights[(points < 0) | (points >= extent)] = 0
    return weights
