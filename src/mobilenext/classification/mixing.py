"""Mixup and CutMix: the images of a batch are mixed with their neighbors, and so are their labels.

    mixup    x = share * x + (1 - share) * neighbor                      (Zhang et al. 2018)
    cutmix   a rectangle of the neighbor, 1 - share of the area, over x    (Yun et al. 2019)

    loss = share * loss of the own label + (1 - share) * loss of the neighbor's

One share is drawn for a batch, from Beta(alpha, alpha), by the rules of timm, the code that trained the released
checkpoints. There an image's partner is the one at the same place from the end of the batch; here it is its neighbor,
1 of 0 and 0 of 1, 3 of 2 and 2 of 3, so that the processes of a run, which have consecutive parts of a batch, mix the
same pairs as one process. The order of the images is random, so one rule is as good as the other. The last image of an
odd number stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Mix(NamedTuple):
    """How the images of one batch are mixed."""

    share: float  # of an image itself
    box: tuple[int, int, int, int] | None = None  # top, bottom, left, right of what the neighbor covers; None: blended


@dataclass(frozen=True)
class Mixing:
    """How batches are mixed; an alpha of 0 is never."""

    mixup: float = 0.0  # alpha
    cutmix: float = 0.0  # alpha
    probability: float = 1.0  # that a batch is mixed
    switch: float = 0.5  # with both, the probability of CutMix

    def draw(self, size: int, random: np.random.Generator) -> Mix | None:
        """Draw how one batch of images of `size` x `size` pixels is mixed; None: it is not."""
        if not (self.mixup or self.cutmix) or random.random() >= self.probability:
            return None
        cut = bool(self.cutmix) and (not self.mixup or random.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        share = float(random.beta(alpha, alpha))
        if not cut:
            return Mix(share)
        # The sides are sqrt(1 - share) of the image's; what lies outside of it is cut off, and the share corrected.
        half = int(size * math.sqrt(1 - share)) // 2
        y, x = (int(middle) for middle in random.integers(size, size=2))
        top, bottom, left, right = max(0, y - half), min(size, y + half), max(0, x - half), min(size, x + half)
        return Mix(1 - (bottom - top) * (right - left) / size**2, (top, bottom, left, right))


NEVER = Mixing()


def neighbors(count: int) -> npt.NDArray[np.int64]:
    """Return the partner of each of `count` images [N]: 1 0 3 2 5 4 ..., the last of an odd number itself."""
    partners: npt.NDArray[np.int64] = np.minimum(np.arange(count) ^ 1, max(0, count - 1))
    return partners


def mix_images(images: npt.NDArray[np.float32], mix: Mix) -> None:
    """Mix the images [N, C, H, W] with their neighbors, in place."""
    even = len(images) // 2 * 2
    first, second = images[0:even:2], images[1:even:2]  # of each pair [N / 2, C, H, W]
    if mix.box is None:
        share = np.float32(mix.share)
        mixed = share * first + (1 - share) * second
        second[:] = share * second + (1 - share) * first
        first[:] = mixed
    else:
        top, bottom, left, right = mix.box
        covered = first[..., top:bottom, left:right].copy()
        first[..., top:bottom, left:right] = second[..., top:bottom, left:right]
        second[..., top:bottom, left:right] = covered
