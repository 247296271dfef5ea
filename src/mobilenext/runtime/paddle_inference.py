"""Paddle Inference, the deployment runtime inside Paddle's wheel, with the engines that the wheel offers.

On a CPU the fastest is OpenVINO (Paddle 3), which reads only the older ``.pdmodel`` format and ignores the newer
``.json`` one without a word; then oneDNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import paddle
from paddle import inference

from mobilenext.errors import DataError
from mobilenext.runtime.foreign import Declared
from mobilenext.runtime.paddle_files import parameters_of
from mobilenext.runtime.self_check import failure

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec

LARGEST_BATCH = 64  # of TensorRT, which needs it in advance


def unavailable(engine: str, file: str) -> str | None:
    """Return why an engine cannot run the model `file` in this build of Paddle, or None."""
    if engine != "openvino":
        return None
    if not hasattr(inference.Config, "enable_openvino_engine"):
        return f"Paddle {paddle.__version__} does not have it"
    if not file.endswith(".pdmodel"):
        return "it reads only .pdmodel files (--format paddle-legacy)"
    return None


class PaddleInference:
    """A predictor of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        if problem := unavailable(spec.engine, spec.file):
            raise NotImplementedError(problem)
        model = spec.folder / spec.file
        self._model = model
        config = inference.Config(str(model), str(parameters_of(model)))
        config.disable_glog_info()
        if spec.device == "gpu":
            precision = {"fp32": inference.PrecisionType.Float32, "fp16": inference.PrecisionType.Half}[spec.precision]
            config.enable_use_gpu(256, 0, precision)  # MiB at first, device
            if spec.engine == "tensorrt":
                config.enable_tensorrt_engine(1 << 30, LARGEST_BATCH, 3, precision, False, False)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(spec.threads)
            # oneDNN is on by default from Paddle 3: leaving it out would not turn it off.
            if spec.engine == "openvino":
                # Without a folder it leaves its compiled networks in, and takes them from, __cache__ where we are run.
                config.set_optim_cache_dir(str((spec.scratch or spec.folder) / "cache"))
                config.enable_openvino_engine(inference.PrecisionType.Float32)
            elif spec.engine == "onednn":
                config.enable_mkldnn()
            elif hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        # Paddle names the outputs of what is exported here by numbers, in their order.
        names = self._predictor.get_output_names()
        self._outputs = spec.outputs if set(spec.outputs) <= set(names) else names[: len(spec.outputs)]

    def predict(self, batch: Floats) -> Outputs:
        return tuple(self.run(batch, self._outputs))

    def declared(self) -> tuple[list[Declared], list[Declared]]:
        """Return the inputs and outputs of a file of unknown origin."""
        read = _declared_json if self._model.suffix == ".json" else _declared_protobuf
        try:
            return read(self._model)
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f"{self._model}: Paddle {paddle.__version__} cannot read it: {failure(error)}; export it again"
            ) from error

    def run(self, feed: npt.NDArray[Any], outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Return some outputs for the one input."""
        self._input.reshape(feed.shape)
        self._input.copy_from_cpu(feed)
        self._predictor.run()
        return [self._predictor.get_output_handle(name).copy_to_cpu() for name in outputs]


def _declared_json(model: Path) -> tuple[list[Declared], list[Declared]]:
    program = paddle.static.Program()
    with paddle.pir_utils.IrGuard():
        paddle.base.core.deserialize_pir_program(str(model), program, 1)
        inputs, outputs = [], []
        for operation in program.global_block().ops:
            if operation.name() in ("pd_op.data", "pd_op.feed"):
                value = operation.results()[0]
                inputs.append(_declared(operation.attrs()["name"], value.shape, value.dtype))
            elif operation.name() == "pd_op.fetch":
                value = operation.operand_source(0)
                outputs.append(_declared(operation.attrs()["name"], value.shape, value.dtype))
    return inputs, outputs


def _declared_protobuf(model: Path) -> tuple[list[Declared], list[Declared]]:
    program = paddle.base.core.ProgramDesc(model.read_bytes())  # its block does not keep it alive
    block = program.block(0)
    inputs, outputs = [], []
    for operation in (block.op(index) for index in range(block.op_size())):
        if operation.type() == "feed":
            inputs += [_declared_variable(name, block) for name in operation.output("Out")]
        elif operation.type() == "fetch":
            outputs += [_declared_variable(name, block) for name in operation.input("X")]
    return inputs, outputs


def _declared_variable(name: str, block: Any) -> Declared:
    variable = block.find_var(name.encode())
    return _declared(name, variable.shape(), variable.dtype())


def _declared(name: str, shape: Sequence[int], dtype: object) -> Declared:
    kind = str(dtype).rpartition(".")[2].lower()  # paddle.float32, DataType.FLOAT32, VarType.FP32
    kind = {"fp32": "float32", "fp16": "float16", "fp64": "float64"}.get(kind, kind)
    return Declared(name, kind, tuple(side if side > 0 else None for side in shape))
