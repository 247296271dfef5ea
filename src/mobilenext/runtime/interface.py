"""The interface of every runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mobilenext.arrays import Floats, Outputs


class Runtime(Protocol):
    """An opened network."""

    def predict(self, batch: Floats) -> Outputs:
        """Return the outputs, each [N, ...], for normalized images [N, 3, H, W]; a classifier has one, its logits."""


def outputs_of(runtime: Runtime, batch: Floats, *, flip: bool) -> Outputs:
    """Return the outputs [N, ...] for a batch [N, 3, S, S]; with `flip`, those for the mirrored images behind them."""
    outputs = tuple(runtime.predict(batch))
    return outputs + tuple(runtime.predict(np.ascontiguousarray(batch[..., ::-1]))) if flip else outputs
