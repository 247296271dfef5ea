"""The kinds of arrays that travel between the packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Logits = npt.NDArray[np.floating[Any]]  # float32; logarithms of probabilities are float64
