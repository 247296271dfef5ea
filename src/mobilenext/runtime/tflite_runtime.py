"""TFLite (LiteRT) on a CPU, with XNNPACK. Its images and maps are NHWC, ours NCHW: they are transposed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mobilenext.errors import DataError
from mobilenext.machine.captured import captured_output

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec


class TFLite:
    """An interpreter of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        path = spec.folder / spec.file
        try:
            with captured_output():  # it announces its delegate
                self._interpreter = Interpreter(str(path), num_threads=spec.threads)
                self._input = self._interpreter.get_input_details()[0]["index"]
            indices = {output["name"]: output["index"] for output in self._interpreter.get_output_details()}
            self._outputs = [indices[name] for name in spec.outputs]
        except (ValueError, RuntimeError, IndexError, KeyError) as error:
            raise DataError(f"{path}: LiteRT cannot open it ({error}); it may be cut short: export it again") from error
        self._shape: tuple[int, ...] = ()

    def predict(self, batch: Floats) -> Outputs:
        images = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))  # [N, H, W, 3]
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, images.shape, strict=True)
            with captured_output():
                self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        outputs = [self._interpreter.get_tensor(index) for index in self._outputs]
        return tuple(output.transpose(0, 3, 1, 2) if output.ndim == 4 else output for output in outputs)
