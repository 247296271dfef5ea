"""Heat maps as colors on pixels.

The colors are matplotlib's magma (S. van der Walt and N. Smith, CC0), which is even in lightness: twice the heat looks
twice as bright, also in gray and to the color-blind.
"""

from __future__ import annotations

import numpy as np

from mobilenext.data.preprocessing import Pixels
from mobilenext.errors import UsageError
from mobilenext.explanation.gradcam import Heat

# Every 17th of magma's 256 colors; straight lines between them stay within 3 of 255 of the whole table.
_MAGMA = (
    "000004 0b0924 20114b 3b0f70 57157e 721f81 8c2981 a8327d c43c75 de4968 f1605d fa7f5e fe9f6d febf84 fddea0 fcfdbf"
)
ANCHORS = np.array([[int(color[at : at + 2], 16) for at in (0, 2, 4)] for color in _MAGMA.split()])  # [16, 3]
STRENGTH = 0.75  # share of the color where the heat is 1, falling with its root; the rest is the picture in gray


def colored(heat: Heat) -> Pixels:
    """Return heat [H, W] from 0 to 1 as colors, uint8 [H, W, 3]."""
    at = np.linspace(0, 1, len(ANCHORS))
    channels = [np.interp(heat, at, ANCHORS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(pixels: Pixels, heat: Heat) -> Pixels:
    """Return the picture in gray under the colors of its heat: uint8 [H, W, 3].

    Args:
        pixels: uint8 [H, W, 3], a crop with ``Explanation.heat`` or a whole image with ``heat_map``.
        heat: [H, W] from 0 to 1.

    Raises:
        UsageError: the two are not of one size.
    """
    if pixels.shape != (*heat.shape, 3):
        raise UsageError(f"pixels {list(pixels.shape)} and heat {list(heat.shape)}; expected [H, W, 3] and [H, W]")
    gray = pixels @ np.array([0.299, 0.587, 0.114])  # [H, W]
    share = STRENGTH * np.sqrt(heat)[..., None]  # [H, W, 1]
    blend = (1 - share) * gray[..., None] + share * colored(heat)  # [H, W, 3]
    return np.asarray(blend.round(), np.uint8)


def dimmed(pixels: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """Return `pixels` with a third of their brightness outside `box`, where the network does not look."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))  # [H, W]
    return np.where(inside[..., None], pixels, pixels // 3).astype(np.uint8)
