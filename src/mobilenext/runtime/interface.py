"""What every runtime can do."""

from __future__ import annotations

from typing import Protocol

from mobilenext.arrays import Floats, Logits


class Runtime(Protocol):
    """An opened network."""

    def predict(self, batch: Floats) -> Logits:
        """Normalised images [N, 3, H, W] to logits [N, classes]."""
