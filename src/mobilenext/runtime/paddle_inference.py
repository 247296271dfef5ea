"""Paddle Inference, the deployment runtime inside Paddle's wheel, in the fastest form that the wheel offers.

On a CPU that is the OpenVINO engine (Paddle 3), which reads only the older ``.pdmodel`` format and ignores the newer
``.json`` one without a word; so ``.pdmodel`` is written whatever the version. Before Paddle 3 it is oneDNN.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import paddle
from paddle import inference
from paddle.static import InputSpec

if TYPE_CHECKING:
    from mobilenext.runtime import Floats, RuntimeSpec

STEM = "model"


def write(network: paddle.nn.Layer, folder: Path, image_size: int) -> None:
    """Save the network (evaluation mode) as ``model.pdmodel`` and ``model.pdiparams``, with a free batch size."""
    # Paddle 2 writes nothing else.
    guard = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", contextlib.nullcontext)
    with guard():
        shape = InputSpec([None, 3, image_size, image_size], "float32", "image")
        static = paddle.jit.to_static(network, input_spec=[shape], full_graph=True)
        paddle.jit.save(static, str(folder / STEM))


def unavailable(engine: str) -> str | None:
    """Why this build of Paddle cannot have the engine, or None."""
    if engine == "openvino" and not hasattr(inference.Config, "enable_openvino_engine"):
        return f"Paddle {paddle.__version__} does not have it"
    return None


class PaddleInference:
    """A predictor of one process."""

    def __init__(self, spec: RuntimeSpec) -> None:
        config = inference.Config(str(spec.folder / f"{STEM}.pdmodel"), str(spec.folder / f"{STEM}.pdiparams"))
        config.disable_glog_info()
        if spec.device == "gpu":
            config.enable_use_gpu(256, 0)  # MiB at first, device
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(spec.threads)
            # oneDNN is on by default from Paddle 3: leaving it out would not turn it off.
            if spec.engine == "openvino":
                # Without a folder it leaves its compiled networks in, and takes them from, __cache__ where we are run.
                config.set_optim_cache_dir(str(spec.folder / "cache"))
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
