"""OpenVINO on a CPU: its own format, or ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino

from mobilenext.errors import DataError

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec


class OpenVINO:
    """A compiled network of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        core = openvino.Core()
        path = spec.folder / spec.file
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise DataError(
                f"{path}: OpenVINO {openvino.__version__} cannot open it; the file may be cut short, or be of a newer "
                "version: export it again"
            ) from error
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": spec.threads,
            "NUM_STREAMS": 1,
            # Where the processor has AMX, OpenVINO would take bfloat16 unasked.
            "INFERENCE_PRECISION_HINT": "bf16" if spec.precision == "bf16" else "f32",
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._input, self._outputs = spec.input, spec.outputs

    def predict(self, batch: Floats) -> Outputs:
        self._request.infer({self._input: batch}, share_inputs=True)
        return tuple(np.array(self._request.get_tensor(name).data) for name in self._outputs)
