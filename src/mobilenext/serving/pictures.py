"""A heat map as a layer to lay over a picture, and pixels as PNG."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from mobilenext.arrays import Floats
from mobilenext.data.preprocessing import Pixels
from mobilenext.explanation.overlay import colored

SOLID = 0.85  # opacity of the hottest place


def heat_layer(heat_map: Floats) -> Pixels:
    """Convert a heat map [S, S], 0 to 1, to RGBA uint8 [S, S, 4]: the hotter, the more it covers."""
    alpha = (255 * SOLID * np.sqrt(heat_map)).round().astype(np.uint8)
    return np.concatenate([colored(heat_map), alpha[..., None]], axis=-1)


def png(pixels: Pixels) -> bytes:
    """Encode uint8 [H, W, 3 or 4] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_uri(pixels: Pixels) -> str:
    """Return the PNG file as a data: URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
