"""ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from mobilenext.errors import DataError

if TYPE_CHECKING:
    from mobilenext.runtime import Floats, RuntimeSpec

ERRORS_ONLY = 3


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that computes with `threads` threads.

    Raises:
        DataError: the file cannot be read as ONNX.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise DataError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open it: {str(error).splitlines()[0][:300]}; the "
            "file may be cut short or need a newer runtime: export it again"
        ) from error


@dataclass(frozen=True)
class Described:
    """The one input and the one output of an ONNX classifier."""

    input: str
    output: str
    image_size: int | None  # None: free


def describe(path: Path) -> Described:
    """What a file of unknown origin takes and gives.

    Raises:
        DataError: it cannot be read, or is not a classifier of images [N, 3, S, S] in float32 with N free.
    """
    session = open_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(
            f"{path} has the inputs {_listed(inputs)} and the outputs {_listed(outputs)}; expected one input, the "
            "image, and one output, the logits"
        )
    (taken,), (given,) = inputs, outputs
    shape = [side if isinstance(side, int) and side > 0 else None for side in taken.shape]  # None: free
    fits = len(shape) == 4 and shape[1] in (3, None) and shape[2] == shape[3] and taken.type == "tensor(float)"
    if not fits:
        raise DataError(f"{path} takes {_listed(inputs)}; expected float [N, 3, S, S], a square RGB image")
    if shape[0] is not None:
        raise DataError(
            f"the batch of {path} is fixed to {shape[0]}; expected a free first dimension: export it with a dynamic "
            "batch"
        )
    if len(given.shape) != 2 or given.type != "tensor(float)":
        raise DataError(f"{path} gives {_listed(outputs)}; expected float [N, classes]")
    return Described(taken.name, given.name, shape[2])


def _listed(values: Sequence[onnxruntime.NodeArg]) -> str:
    return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values) or "none"


class ONNXRuntime:
    """A session of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        self._session = open_session(spec.folder / spec.file, spec.threads)
        self._input, self._output = spec.input, spec.output

    def predict(self, batch: Floats) -> Floats:
        try:
            logits: Floats = self._session.run([self._output], {self._input: batch})[0]
        except Exception as error:  # as above
            raise RuntimeError(str(error)) from error
        return logits
