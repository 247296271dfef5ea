"""ncnn, made for phones, on a CPU in float32. It has no batch dimension: images go through one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ncnn
import numpy as np

from mobilenext.errors import DataError

if TYPE_CHECKING:
    from mobilenext.arrays import Floats, Outputs
    from mobilenext.runtime import RuntimeSpec


class NCNN:
    """A network of one process: ``NAME.ncnn.param`` with ``NAME.ncnn.bin`` beside it."""

    def __init__(self, spec: RuntimeSpec) -> None:
        network = ncnn.Net()
        network.opt.num_threads = spec.threads
        network.opt.use_vulkan_compute = False
        for shorter in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(network.opt, f"use_{shorter}", False)
        param = spec.folder / spec.file
        for load, path in ((network.load_param, param), (network.load_model, param.with_suffix(".bin"))):
            if not path.is_file() or load(str(path)) != 0:
                raise DataError(f"{path}: ncnn {ncnn.__version__} cannot open it; export it again")
        self._network, self._input, self._outputs = network, spec.input, spec.outputs

    def predict(self, batch: Floats) -> Outputs:
        return tuple(map(np.stack, zip(*(self._predict_one(image) for image in batch), strict=True)))

    def _predict_one(self, image: Floats) -> list[Floats]:
        """Return the outputs, without the batch axis, for one image [3, H, W]."""
        image = np.ascontiguousarray(image)  # ncnn reads this memory as it lies, until it has extracted
        extractor = self._network.create_extractor()
        extractor.input(self._input, ncnn.Mat(image))
        outputs = []
        for name in self._outputs:
            code, values = extractor.extract(name)
            if code != 0:
                raise RuntimeError(f"ncnn ends with the code {code}")
            outputs.append(np.array(values, np.float32))
        return outputs
