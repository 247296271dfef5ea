"""Check that an opened network computes what Paddle does, on one picture for which Paddle's outputs are known."""

from __future__ import annotations

import numpy as np

from mobilenext.arrays import Floats, Outputs
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.runtime import RuntimeSpec, open_runtime

# The largest difference of an output that is put down to rounding, in standard deviations of that output. In float32
# a deep network amplifies rounding to 1e-3 at the very most; a wrong kernel is off by the size of the output itself.
# In 8 or 16 bits only nonsense can be told from rounding here: what it costs in accuracy must be measured.
ALLOWED_OF_STD = {"fp32": 1e-2, "bf16": 1.0, "fp16": 1.0, "int8": 2.0}


def probe(preprocessing: Preprocessing) -> Floats:
    """Return a picture of overlapping waves [1, 3, S, S], normalized; the same to the bit on every machine."""
    side = np.arange(preprocessing.image_size, dtype=np.int64)
    rows, columns = side[:, None, None], side[None, :, None]
    slopes = np.array([[3, 1], [1, 4], [2, 2]], np.int64).T  # a direction for each color
    waves = rows * slopes[0] + columns * slopes[1] + rows * columns // 16  # [S, S, 3]
    pixels = np.abs((waves + 255) % 510 - 255).astype(np.uint8)  # up and down again, without a jump
    return preprocessing.normalize(pixels[None])


def scale_of(output: Floats) -> float:
    """Return what differences of an output are measured by: its standard deviation, or of a constant its size."""
    return float(output.std()) or float(np.abs(output).max(initial=0))


def problem_of(spec: RuntimeSpec, image: Floats, expected: Outputs) -> str | None:
    """Return None when the opened network gives the `expected` outputs for an image, else a sentence.

    Args:
        spec: of the network.
        image: [1, 3, S, S].
        expected: an array [1, ...] for each of ``spec.outputs``.
    """
    try:
        runtime = open_runtime(spec)
        outputs = runtime.predict(image)
        repeated = runtime.predict(np.concatenate([image] * 2))  # the batch size must be free, or be declared so
    except (RuntimeError, ValueError, NotImplementedError) as error:  # what C++ errors are raised as
        return failure(error)
    for name, reference, *others in zip(spec.outputs, expected, outputs, (last[1:] for last in repeated), strict=True):
        if others[0].shape != reference.shape:
            return f"its {name} have the shape {list(others[0].shape)} instead of {list(reference.shape)}"
        if spec.form is not None:
            reference, *others = (spec.form.comparable(logits) for logits in (reference, *others))
        allowed = ALLOWED_OF_STD[spec.precision] * scale_of(reference)
        worst = float(max(np.abs(other - reference).max() for other in others))
        if not worst <= allowed:  # written so that a NaN is a problem
            return f"its {name} are off by {worst:.2g} (allowed {allowed:.2g})"
    return None


def failure(error: Exception) -> str:
    """Return one sentence in place of a C++ trace."""
    text = str(error)
    if "ConvertPirAttribute2RuntimeAttribute" in text:
        return (
            "a known failure of oneDNN in Paddle 3.3 with the newer .json format (PaddlePaddle/Paddle issue 77340): "
            "use --engine native, export with --format paddle-legacy, or install paddlepaddle 3.2.2"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"it fails with {type(error).__name__}: {lines[-1][:300] if lines else 'no message'}"
