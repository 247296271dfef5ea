"""Paddle Inference, the deployment runtime inside Paddle's wheel, with the engines that the wheel offers.

On a CPU the fastest is OpenVINO (Paddle 3), which reads only the older ``.pdmodel`` format and ignores the newer
``.json`` one without a word; then oneDNN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle
from paddle import inference

if TYPE_CHECKING:
    from mobilenext.runtime import Floats, RuntimeSpec

LARGEST_BATCH = 64  # of TensorRT, which is told in advance


def unavailable(engine: str, file: str) -> str | None:
    """Why an engine cannot run the model `file` in this build of Paddle, or None."""
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
        config = inference.Config(str(model), str(model.with_suffix(".pdiparams")))
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

    def predict(self, batch: Floats) -> Floats:
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(batch)
        self._predictor.run()
        output: Floats = self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()
        return output
