"""The forms of networks of other projects, and the adapter that gives them the form that all networks have here.

Everywhere here, a network takes normalized images, float32 [N, 3, S, S] with any N, and gives logits [N, classes].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats, Logits, Outputs
from mobilenext.runtime.interface import Runtime

LAYOUTS = ("NCHW", "NHWC", "CHW", "HWC")
DTYPES = ("float32", "float16", "float64", "uint8")
OUTPUTS = ("logits", "probabilities")
LARGEST_BATCH = 4096
# Logarithms of probabilities are compared down to here: networks that compute the same differ in what they round to 0.
LEAST_LOGARITHM = float(np.log(1e-6))


@dataclass(frozen=True)
class Form:
    """The form of a network's input and output.

    Raises:
        ValueError: a value that is none of those below.
    """

    batch: int | None = None  # images a call must have; None: any number
    layout: str = "NCHW"  # one of LAYOUTS, of the input
    dtype: str = "float32"  # one of DTYPES, of the input; uint8 takes pixels, so mean is 0 and std 1/255
    output: str = "logits"  # one of OUTPUTS; unit axes of the output do not matter

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS or self.dtype not in DTYPES or self.output not in OUTPUTS:
            raise ValueError(f"layout {self.layout!r}, dtype {self.dtype!r}, output {self.output!r}")
        if self.batch is not None and (type(self.batch) is not int or not 1 <= self.batch <= LARGEST_BATCH):
            raise ValueError(f"batch {self.batch!r}")
        if self.batch != 1 and "N" not in self.layout:
            raise ValueError(f"layout {self.layout!r}, batch {self.batch!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the form as JSON can hold it; `from_dict` makes an equal one of it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Form:
        """Make a form of the values of :meth:`to_dict`.

        Raises:
            KeyError, TypeError, ValueError: anything else.
        """
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def inputs(self, images: Floats) -> Iterator[tuple[npt.NDArray[Any], int]]:
        """Yield the input of each call for normalized images [N, 3, S, S].

        Returns:
            The input of each call, and how many of its images are real: a fixed batch is filled up with copies.
        """
        array: npt.NDArray[Any] = images if self.layout.endswith("CHW") else images.transpose(0, 2, 3, 1)
        if self.dtype == "uint8":
            array = np.rint(array).clip(0, 255)  # whole numbers but for rounding, where mean is 0 and std 1/255
        array = np.ascontiguousarray(array, self.dtype)
        size = self.batch or len(array)
        for start in range(0, len(array), size):
            part = array[start : start + size]
            count = len(part)
            if count < size:
                part = part[np.arange(size) % count]
            yield (part if "N" in self.layout else part[0]), count

    def logits(self, scores: npt.NDArray[Any], count: int) -> Logits:
        """Return logits [count, classes] from the scores of one call, of which the first `count` images are real.

        Of probabilities these are the logarithms, whose softmax is the probabilities again; in float64, so that no two
        different ones become equal, and 0 as half the smallest number of its type, below all others.

        Raises:
            ValueError: the output is of another number of images.
        """
        rows = scores.reshape(self.batch or count, -1)[:count]
        if self.output == "logits":
            return rows.astype(np.float32, copy=False)
        smallest = float(np.finfo(rows.dtype).smallest_subnormal)
        return np.log(np.maximum(rows.astype(np.float64), max(smallest / 2, 1e-320)))

    def comparable(self, logits: Logits) -> Logits:
        """Return logits whose differences mean something: logarithms of tiny probabilities are cut off."""
        return logits if self.output == "logits" else np.maximum(logits, LEAST_LOGARITHM)


class Adapted:
    """Give a classifier of another form the interface of all runtimes."""

    def __init__(self, network: Runtime, form: Form) -> None:
        self._network, self._form = network, form

    def predict(self, batch: Floats) -> Outputs:
        parts = []
        for array, count in self._form.inputs(batch):
            (scores,) = self._network.predict(array)
            parts.append(self._form.logits(np.asarray(scores), count))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts),)
