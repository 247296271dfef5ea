"""The kinds of arrays that travel between the packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outputs = tuple[npt.NDArray[Any], ...]  # of one call of a network, each with the batch as its first axis
Logits = npt.NDArray[np.floating[Any]]  # float32; logarithms of probabilities are float64
