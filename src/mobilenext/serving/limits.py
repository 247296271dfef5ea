"""What one request and one client may cost, and the gate that counts who is inside."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mobilenext.data.images import FORMATS, MAX_PIXELS, ImageLimits
from mobilenext.errors import UsageError, nearest
from mobilenext.serving.problems import Problem

# Formats that are read unless others are asked for. A photo in JPEG 2000 takes 20 bytes a pixel, and seconds; PPM's
# text and an icon's bitmap are decoded in Python. docs/security.md has the numbers.
SERVED_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


@dataclass(frozen=True)
class Limits:
    """Bounds of the server.

    Raises:
        UsageError: a value outside its range.
    """

    max_body_bytes: int = 10 * 2**20  # of one upload
    max_pixels: int = 50_000_000  # of one image; a phone's 48 megapixels pass
    timeout_s: float = 10.0  # to send the body, and again to be answered
    max_concurrency: int = 96  # maximum concurrent predictions: bodies being read, waiting, computed
    max_per_client: int | None = None  # maximum concurrent predictions of one address; None: three quarters of all
    max_connections: int = 512  # open at a time, idle ones too
    max_batch: int = 1  # images a call of the network; docs/serving.md says why one
    max_wait_ms: float = 0.0  # how long a batch that is not full waits for more
    formats: tuple[str, ...] = SERVED_FORMATS  # of images

    def __post_init__(self) -> None:
        whole = ("max_body_bytes", "max_pixels", "max_concurrency", "max_connections", "max_batch")
        for name in whole:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} is {value!r}; expected a whole number from 1 up")
        for name in self.formats:
            if name not in FORMATS:
                raise UsageError(f"formats has {name!r}; expected {', '.join(FORMATS)}{nearest(name.upper(), FORMATS)}")
        if not self.formats:
            raise UsageError(f"formats is empty; expected one or more of {', '.join(FORMATS)}")
        if self.max_pixels > MAX_PIXELS:
            raise UsageError(f"max_pixels is {self.max_pixels:,}; the decoder refuses more than {MAX_PIXELS:,}")
        if self.max_per_client is not None and self.max_per_client < 1:
            raise UsageError(f"max_per_client is {self.max_per_client}; expected a whole number from 1 up")
        if not 0 < self.timeout_s <= 3600:
            raise UsageError(f"timeout_s is {self.timeout_s}; expected seconds above 0 and up to 3600")
        if not 0 <= self.max_wait_ms <= 1000:
            raise UsageError(f"max_wait_ms is {self.max_wait_ms}; expected milliseconds from 0 to 1000")

    @property
    def per_client(self) -> int:
        """Return the maximum concurrent predictions of one address, so that one client cannot fill the server."""
        return self.max_per_client or max(1, self.max_concurrency * 3 // 4)

    @property
    def image(self) -> ImageLimits:
        """Return the limits of one image; its time is at most half of that in which it has to be answered."""
        limits = ImageLimits.from_environment()
        seconds = max(0.1, min(limits.seconds, self.timeout_s / 2))
        return dataclasses.replace(limits, pixels=self.max_pixels, seconds=seconds)

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "max_per_client": self.per_client}


class Gate:
    """Counts the predictions that are inside; used from the event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self.inside = 0

    @property
    def full(self) -> bool:
        return self.inside >= self._limits.max_concurrency

    @contextmanager
    def enter(self, client: str) -> Iterator[None]:
        """Count a prediction as inside while the block runs.

        Raises:
            Problem: 503 when the server is full, 429 when this client has its share already.
        """
        if self.full:
            raise Problem(
                503, f"the server is busy with {self.inside} predictions, its limit; try again", retry_after=1
            )
        if self._clients[client] >= self._limits.per_client:
            raise Problem(
                429, f"{self._limits.per_client} of your predictions are under way, the limit of one client; wait for "
                "one to be answered", retry_after=1,
            )  # fmt: skip
        self.inside += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
