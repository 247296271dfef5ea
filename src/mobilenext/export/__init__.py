"""From a network to files that other programs run: formats, each in a module of its own, and a verified folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Format:
    """A format that a network can be written in."""

    name: str
    file: str  # the model file; what lies beside it has the same stem
    packages: tuple[str, ...]  # that writing it needs, beside Paddle
    extra: str  # of this project, that installs them
    through_onnx: bool = False


ONNX_PACKAGES = ("onnx", "paddle2onnx", "onnxslim")

# "inference" is what Paddle's own tools look for.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format("paddle", "inference.json", (), "cpu"),
            Format("paddle-legacy", "inference.pdmodel", (), "cpu"),
            Format("onnx", "model.onnx", ONNX_PACKAGES, "onnx"),
            Format("openvino", "model.xml", (*ONNX_PACKAGES, "openvino"), "openvino", through_onnx=True),
            Format("ncnn", "model.ncnn.param", ONNX_PACKAGES, "ncnn", through_onnx=True),
            Format("tflite", "model.tflite", (*ONNX_PACKAGES, "ai_edge_litert"), "tflite", through_onnx=True),
        )
    }
)
