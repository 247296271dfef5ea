"""OpenVINO's format, from the ONNX file: Paddle's newer ``.json`` format is not one that OpenVINO reads."""

from __future__ import annotations

from pathlib import Path

import openvino


def write_openvino(onnx_file: Path, xml_file: Path) -> None:
    """Write `xml_file` and ``.bin`` beside it, in float32."""
    model = openvino.Core().read_model(onnx_file)
    openvino.save_model(model, xml_file, compress_to_fp16=False)
