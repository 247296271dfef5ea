"""MNN, made for phones, on a CPU in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.errors import DataError
from mobilenext.machine.captured import captured_output

with captured_output():  # it announces what the processor has
    import MNN

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec


class MNNSession:
    """A session of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        path = spec.folder / spec.file
        settings = {"backend": "CPU", "numThread": spec.threads, "precision": "high"}  # float32 on every processor
        try:
            with captured_output():
                self._network = MNN.Interpreter(str(path))
                self._session = self._network.createSession(settings)
                inputs = self._network.getSessionInputAll(self._session)
                outputs = self._network.getSessionOutputAll(self._session)
            self._input, self._outputs = inputs[spec.input], [outputs[name] for name in spec.outputs]
        except Exception as error:  # it raises no other class
            raise DataError(
                f"{path}: MNN {MNN.version()} cannot open it with the input {spec.input} and the output "
                f"{' and '.join(spec.outputs)}; it may be cut short: export it again"
            ) from error

    def predict(self, batch: Floats) -> Outputs:
        if self._input.getShape() != batch.shape:
            with captured_output():
                self._network.resizeTensor(self._input, batch.shape)
                self._network.resizeSession(self._session)
        self._input.copyFrom(_nchw(np.ascontiguousarray(batch, np.float32)))
        if (code := self._network.runSession(self._session)) != 0:
            raise RuntimeError(f"MNN ends with the code {code}")
        return tuple(map(_values, self._outputs))


def _nchw(array: Floats) -> Any:
    """Return a tensor of MNN with a copy of an array, whose axes are in the order of the array's."""
    return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)


def _values(tensor: Any) -> Floats:
    """Return a copy of the values of a tensor, whose order in the session is MNN's own."""
    copy = _nchw(np.empty(tensor.getShape(), np.float32))
    tensor.copyToHostTensor(copy)
    return np.array(copy.getNumpyData(), np.float32)
