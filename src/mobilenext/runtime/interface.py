"""The interface of every runtime."""

from __future__ import annotations

from typing import Protocol

from mobilenext.arrays import Floats, Outputs


class Runtime(Protocol):
    """An opened network."""

    def predict(self, batch: Floats) -> Outputs:
        """Return the outputs, each [N, ...], for normalized images [N, 3, H, W]; a classifier has one, its logits."""
