"""What one image may cost while it is decoded: pixels, memory, time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mobilenext.errors import UsageError

# Pillow's own threshold for warning of a decompression bomb (1 GiB / 4 / 3), here a refusal. Not
# Image.MAX_IMAGE_PIXELS, which belongs to the whole process.
MAX_PIXELS = 89_478_485

# An RGB image of Pillow has 4 bytes a pixel, and while it is converted there are two of it.
PIXEL_BYTES = 8

PROCESS_BYTES = 56 * 2**20  # of an image's memory, for the process that decodes it and what its libraries keep

MEMORY_VARIABLE = "MOBILENEXT_IMAGE_MEMORY_MIB"
SECONDS_VARIABLE = "MOBILENEXT_IMAGE_SECONDS"


@dataclass(frozen=True)
class ImageLimits:
    """Bounds of decoding one image; what is beyond them is refused with an ``ImageError``.

    Raises:
        UsageError: a value outside its range.
    """

    pixels: int = MAX_PIXELS
    memory_mib: float = 128.0  # over 8 bytes a pixel
    seconds: float = 10.0  # of a core

    def __post_init__(self) -> None:
        if not 1 <= self.pixels <= MAX_PIXELS:
            raise UsageError(f"pixels is {self.pixels}; expected 1 to {MAX_PIXELS:,}")
        if not 96 <= self.memory_mib <= 2**20:
            raise UsageError(f"{MEMORY_VARIABLE} is {self.memory_mib}; expected mebibytes from 96 to 1048576")
        if not 0.1 <= self.seconds <= 3600:
            raise UsageError(f"{SECONDS_VARIABLE} is {self.seconds}; expected seconds from 0.1 to 3600")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ImageLimits:
        """Return the limits with what `MOBILENEXT_IMAGE_MEMORY_MIB` and `MOBILENEXT_IMAGE_SECONDS` set.

        Raises:
            UsageError: a value that is no number or outside its range.
        """
        memory, seconds = environment.get(MEMORY_VARIABLE), environment.get(SECONDS_VARIABLE)
        if not memory and not seconds:
            return DEFAULT_LIMITS
        return cls(
            memory_mib=_number(MEMORY_VARIABLE, memory) if memory else cls.memory_mib,
            seconds=_number(SECONDS_VARIABLE, seconds) if seconds else cls.seconds,
        )

    def bytes_for(self, pixels: int) -> int:
        """Return the memory in bytes that an image of this number of pixels may take."""
        return PIXEL_BYTES * pixels + int(self.memory_mib * 2**20)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{name} is {text!r}; expected a number")
    return value


DEFAULT_LIMITS = ImageLimits()
