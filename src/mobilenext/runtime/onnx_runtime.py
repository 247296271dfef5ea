"""ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnxruntime

from mobilenext.errors import DataError
from mobilenext.runtime.foreign import Declared

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec

ERRORS_ONLY = 3
# Without VNNI, products of 8 bits are added in pairs within 16 bits, which are too few: a sum can lose half its value.
# With this setting ONNX Runtime takes its slower, exact kernels there; elsewhere it changes nothing.
EXACT_SUMS = ("session.x64quantprecision", "1")
NUMPY_NAMES = {"float": "float32", "double": "float64"}  # the other names of ONNX's types are NumPy's


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a session that computes with `threads` threads.

    Raises:
        DataError: the file cannot be read as ONNX.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(*EXACT_SUMS)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise DataError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open it: {str(error).splitlines()[0][:300]}; the "
            "file may be cut short or need a newer runtime: export it again"
        ) from error


class ONNXRuntime:
    """A session of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        self._session = open_session(spec.folder / spec.file, spec.threads)
        self._input, self._outputs = spec.input, spec.outputs

    def predict(self, batch: Floats) -> Outputs:
        return tuple(self._run(self._outputs, {self._input: batch}))

    def declared(self) -> tuple[list[Declared], list[Declared]]:
        """Return the inputs and outputs of a file of unknown origin."""
        return [_declared(value) for value in self._session.get_inputs()], [
            _declared(value) for value in self._session.get_outputs()
        ]

    def run(self, feed: npt.NDArray[Any], outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Return some outputs for the one input of a file of unknown origin."""
        return self._run(outputs, {self._session.get_inputs()[0].name: feed})

    def _run(self, outputs: Sequence[str], feeds: dict[str, npt.NDArray[Any]]) -> list[Any]:
        try:
            values: list[Any] = self._session.run(list(outputs), feeds)
        except Exception as error:  # as above
            raise RuntimeError(str(error)) from error
        return values


def _declared(value: onnxruntime.NodeArg) -> Declared:
    kind = value.type.removeprefix("tensor(").removesuffix(")") if value.type.startswith("tensor(") else value.type
    # Free dimensions have a name, or none, or a number that is none.
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in value.shape)
    return Declared(value.name, NUMPY_NAMES.get(kind, kind), shape or None)
