"""The formats that a network can be written in, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mobilenext.errors import UsageError, nearest
from mobilenext.machine.packages import require


@dataclass(frozen=True)
class Format:
    """A format that a network can be written in."""

    name: str
    file: str  # the model file; what lies beside it has the same stem
    packages: tuple[str, ...]  # that writing it needs, beside Paddle
    extra: str  # of this project, that installs them


ONNX_PACKAGES = ("onnx", "paddle2onnx", "onnxslim")

# "inference" is what Paddle's own tools look for.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        form.name: form
        for form in (
            Format("paddle", "inference.json", (), "cpu"),
            Format("paddle-legacy", "inference.pdmodel", (), "cpu"),
            Format("onnx", "model.onnx", ONNX_PACKAGES, "onnx"),
            Format("openvino", "model.xml", (*ONNX_PACKAGES, "openvino"), "openvino"),
            Format("ncnn", "model.ncnn.param", ONNX_PACKAGES, "ncnn"),
            Format("tflite", "model.tflite", (*ONNX_PACKAGES, "ai_edge_litert"), "tflite"),
            Format("mnn", "model.mnn", (*ONNX_PACKAGES, "MNN"), "mnn"),
        )
    }
)


def check_format(name: str) -> None:
    """Raise UsageError for an unknown format, MissingDependency where a package that writes it is not installed."""
    if name not in FORMATS:
        raise UsageError(f"format is {name!r}; expected {', '.join(FORMATS)}{nearest(name, FORMATS)}")
    require(FORMATS[name].packages, FORMATS[name].extra, f"export to {name}")
    if name == "ncnn":
        from mobilenext.export.to_ncnn import find_pnnx

        find_pnnx()
