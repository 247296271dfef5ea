"""Does an opened network compute what Paddle does? Asked with one picture whose logits Paddle has given before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilenext.arrays import Floats, Logits
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.runtime import RuntimeSpec, open_runtime

# The largest difference of a logit that is put down to rounding, in standard deviations of the logits. In float32
# a deep network amplifies rounding to 1e-3 at the very most, a wrong kernel is off by the logits' own size.
# In 8 or 16 bits only nonsense can be told from rounding here: what it costs in accuracy must be measured.
ALLOWED_OF_STD = {"fp32": 1e-2, "bf16": 1.0, "fp16": 1.0, "int8": 2.0}


def probe(preprocessing: Preprocessing) -> Floats:
    """A picture of overlapping waves [1, 3, S, S], normalised; the same to the bit on every machine."""
    side = np.arange(preprocessing.image_size, dtype=np.int64)
    rows, columns = side[:, None, None], side[None, :, None]
    slopes = np.array([[3, 1], [1, 4], [2, 2]], np.int64).T  # a direction for each colour
    waves = rows * slopes[0] + columns * slopes[1] + rows * columns // 16  # [S, S, 3]
    pixels = np.abs((waves + 255) % 510 - 255).astype(np.uint8)  # up and down again, without a jump
    return preprocessing.normalize(pixels[None])


def problem_of(spec: RuntimeSpec, image: Floats, expected: Sequence[float] | Logits) -> str | None:
    """None when the opened network gives the `expected` logits for `image` [1, 3, S, S], else a sentence."""
    reference: Logits = np.asarray(expected, np.float32).reshape(1, -1)
    try:
        runtime = open_runtime(spec)
        found = runtime.predict(image)
        again = runtime.predict(np.concatenate([image] * 2))[1:]  # the batch is free, or said to be
    except (RuntimeError, ValueError, NotImplementedError) as error:  # what C++ errors are raised as
        return failure(error)
    if found.shape != reference.shape:
        return f"it gives {found.shape[1] if found.ndim == 2 else found.shape} logits instead of {reference.shape[1]}"
    if spec.form is not None:
        reference, found, again = (spec.form.comparable(logits) for logits in (reference, found, again))
    allowed = ALLOWED_OF_STD[spec.precision] * float(reference.std())
    worst = float(max(np.abs(found - reference).max(), np.abs(again - reference).max()))
    # Written so that a NaN is a problem.
    return None if worst <= allowed else f"its logits are off by {worst:.2g} (allowed {allowed:.2g})"


def failure(error: Exception) -> str:
    """One sentence instead of a C++ trace."""
    text = str(error)
    if "ConvertPirAttribute2RuntimeAttribute" in text:
        return (
            "a known failure of oneDNN in Paddle 3.3 with the newer .json format (PaddlePaddle/Paddle issue 77340): "
            "use --engine native, export with --format paddle-legacy, or install paddlepaddle 3.2.2"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"it fails with {type(error).__name__}: {lines[-1][:300] if lines else 'no message'}"
