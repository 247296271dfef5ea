"""ncnn, made for phones, on a CPU in float32. It has no batch dimension: images go through one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ncnn
import numpy as np

from mobilenext.errors import DataError

if TYPE_CHECKING:
    from mobilenext.arrays import Floats
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
        self._network, self._input, self._output = network, spec.input, spec.output

    def predict(self, batch: Floats) -> Floats:
        return np.stack([self._predict_one(image) for image in batch])

    def _predict_one(self, image: Floats) -> Floats:
        """[3, H, W] to [classes]."""
        image = np.ascontiguousarray(image)  # ncnn reads this memory as it lies, until it has extracted
        extractor = self._network.create_extractor()
        extractor.input(self._input, ncnn.Mat(image))
        code, logits = extractor.extract(self._output)
        if code != 0:
            raise RuntimeError(f"ncnn ends with the code {code}")
        return np.array(logits, np.float32)
