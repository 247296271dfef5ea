"""Changes of the colors of a training picture, in float32 and without clipping, as the authors make them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mobilenext.arrays import Floats

# The centers of the hues, on a circle of 6, at which a channel is at its largest: red, green, blue.
_CENTERS = (0.0, 2.0, 4.0)


class Colors(NamedTuple):
    """What is done to the colors of one picture, in this order."""

    brightness: float = 0.0  # is added
    contrast: float = 1.0  # factor of all values; before the change of hue and saturation, or after it
    contrast_first: bool = True
    saturation: float = 1.0  # factor
    hue: float = 0.0  # degrees, are added
    order: tuple[int, ...] = (0, 1, 2)  # of the channels

    def change(self, planes: Floats) -> Floats:
        """Return float32 [3, H, W] with red, green, blue from 0 to 255, changed; `planes` may be overwritten."""
        if self.brightness:
            planes += np.float32(self.brightness)
        if self.contrast_first:
            planes *= np.float32(self.contrast)
        if self.hue:
            _turn(planes, self.hue, self.saturation)
        elif self.saturation != 1:
            _saturate(planes, self.saturation)
        if not self.contrast_first:
            planes *= np.float32(self.contrast)
        return planes if self.order == (0, 1, 2) else planes[list(self.order)]


def _saturate(planes: Floats, factor: float) -> None:
    """Multiply the saturation S of HSV, in place.

    A channel is V - V * S * t, V the largest of the three and t a function of the hue, so its distance from V is
    multiplied. OpenCV divides by the absolute value of V for S: below 0, which brightness can reach, the sign changes.
    """
    value = planes.max(axis=0)
    factors = np.float32(factor) * np.sign(value)
    planes -= value
    planes *= factors
    planes += value


def _turn(planes: Floats, degrees: float, factor: float) -> None:
    """Add to the hue and multiply the saturation of HSV, in place."""
    red, green, blue = planes
    value = planes.max(axis=0)
    chroma = value - planes.min(axis=0)
    # The hue on a circle of 6: 0 is red, 2 green, 4 blue. That of a gray pixel is never used.
    of_red, of_green = value == red, value == green
    hue = red - green
    np.subtract(blue, red, out=hue, where=of_green)
    np.subtract(green, blue, out=hue, where=of_red)
    hue /= chroma + np.finfo(np.float32).tiny
    hue += np.where(of_red, np.float32(0), np.where(of_green, np.float32(2), np.float32(4)))
    chroma *= np.float32(factor) * np.sign(value)  # as in `_saturate`
    for plane, center in zip(planes, _CENTERS, strict=True):
        # A channel has the value V within 1 of its center, and V - chroma from 2 on. The circle is closed at 6: a
        # distance beyond 6 becomes one below 0, which is as good as one below 1.
        distance = np.abs(hue - np.float32((center - degrees / 60) % 6))
        np.minimum(distance, 6 - distance, out=distance)
        distance -= 1
        np.clip(distance, 0, 1, out=distance)
        distance *= chroma
        np.subtract(value, distance, out=plane)
