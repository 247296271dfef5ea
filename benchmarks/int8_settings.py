"""How the ranges of the activations are found, and what is quantized: the choices behind `mobilenext quantize`.

    python benchmarks/int8_settings.py CHECKPOINT DATA [--image-size 64] [-o results/int8_settings.json]

Calibrates with 256 images of DATA's train_list.txt, spread evenly, and evaluates on its val_list.txt by ONNX Runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from mobilenext.data import open_dataset, read_image
from mobilenext.export.folding import fold_batch_norms
from mobilenext.export.to_onnx import write_onnx
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.quantization import onnx_int8
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights

METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "smallest to largest value": (CalibrationMethod.MinMax, {}),
    "moving average of these": (CalibrationMethod.MinMax, {"moving_average": True}),
    "entropy": (CalibrationMethod.Entropy, {}),
    "99.9 % of the values": (CalibrationMethod.Percentile, {"percentile": 99.9}),
    "99.99 % of the values": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "99.995 % of the values": (CalibrationMethod.Percentile, {"percentile": 99.995}),
    "99.999 % of the values": (CalibrationMethod.Percentile, {"percentile": 99.999}),
}
OPERATORS = {"convolutions and linear": ("Conv", "MatMul", "Gemm"), "all": onnx_int8.OPERATORS}
BATCH = 8


def logits(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": images[i : i + 50]})[0] for i in range(0, len(images), 50)])


class Batch(CalibrationDataReader):  # type: ignore[misc]
    """One batch, in the form that ONNX Runtime's calibrator asks for."""

    def __init__(self, images: np.ndarray) -> None:
        self.inputs = iter([{"image": images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


def ranges_of(network: Path, images: np.ndarray, method: CalibrationMethod, extra: dict[str, Any]) -> Any:
    """Find the range of every tensor over images [N, 3, S, S] by one method."""
    with contextlib.redirect_stdout(io.StringIO()):  # the calibrator prints its progress
        calibrator = create_calibrator(
            network,
            list(onnx_int8.OPERATORS),
            augmented_model_path=str(network.with_name("calibration.onnx")),
            calibrate_method=method,
            extra_options=extra,
        )
        for start in range(0, len(images), BATCH):
            calibrator.collect_data(Batch(images[start : start + BATCH]))
        return calibrator.compute_data()


def quantized(network: Path, ranges: Any, operators: Sequence[str]) -> onnx.ModelProto:
    """Quantize these operators, otherwise with the settings of `mobilenext quantize`."""
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(network),
        True,  # a scale for each channel
        False,  # all 8 bits
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        [],
        list(operators),
        dict(onnx_int8.SETTINGS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    return model


def float_network(weights: Weights, folder: Path) -> Path:
    """Write the float32 network as ONNX, ready to be quantized."""
    network = network_of(weights)
    fold_batch_norms(network)
    write_onnx(network, folder / "float.onnx", weights.preprocessing.image_size)
    onnx_int8.make_ready(folder / "float.onnx", folder / "ready.onnx")
    return folder / "ready.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/int8_settings.json"))
    options = parser.parse_args()
    weights = read_weights(options.checkpoint, preprocessing={"image_size": options.image_size, "crop_pct": 1.0})
    train = open_dataset(options.data, list_file=options.data / "train_list.txt").records
    sample = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, 256).round().astype(int))]
    calibration = np.stack([weights.preprocessing(read_image(record.path)) for record in sample])
    val = open_dataset(options.data).records
    images = np.stack([weights.preprocessing(read_image(record.path)) for record in val])
    labels = np.array([record.label for record in val])

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        network = float_network(weights, Path(scratch))
        before = logits(onnx.load(str(network)), images)
        for name, (method, extra) in METHODS.items():
            ranges = ranges_of(network, calibration, method, extra)
            for what, operators in OPERATORS.items():
                after = logits(quantized(network, ranges, operators), images)
                noise = float(((after - before) ** 2).sum())
                rows.append(
                    {
                        "ranges": name,
                        "quantised": what,
                        "correct_top1": int((after.argmax(1) == labels).sum()),
                        "equal_predictions": int((after.argmax(1) == before.argmax(1)).sum()),
                        "signal_to_noise_db": round(10 * float(np.log10(float((before**2).sum()) / noise)), 1),
                    }
                )
                print(rows[-1])
    result = {
        "checkpoint": {"name": options.checkpoint.name, "sha256": weights.sha256, "model": weights.model},
        "data": {"folder": options.data.name, "calibration_images": len(sample), "images": len(val)},
        "float_correct_top1": int((before.argmax(1) == labels).sum()),
        "rows": rows,
        **origin(),
        "environment": environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
