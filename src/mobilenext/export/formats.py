"""One network, any format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilenext.errors import UsageError, nearest
from mobilenext.export import FORMATS
from mobilenext.machine.packages import require
from mobilenext.machine.temporary import scratch_folder

if TYPE_CHECKING:
    from paddle import nn


def check_format(name: str) -> None:
    """Raises UsageError for an unknown format, MissingDependency where what writes it is not installed."""
    if name not in FORMATS:
        raise UsageError(f"format is {name!r}; expected {', '.join(FORMATS)}{nearest(name, FORMATS)}")
    require(FORMATS[name].packages, FORMATS[name].extra, f"export to {name}")
    if name == "ncnn":
        from mobilenext.export.to_ncnn import find_pnnx

        find_pnnx()


def write_format(network: nn.Layer, name: str, folder: Path, image_size: int) -> str:
    """Write a network (evaluation mode) into `folder` and return the name of the model file.

    Args:
        network: what is written; its batch norms should be folded.
        name: of the format.
        folder: exists.
        image_size: pixels, of the square images.

    Raises:
        UsageError, MissingDependency: as `check_format`. CheckFailed: a converter fails.
    """
    check_format(name)
    form = FORMATS[name]
    target = folder / form.file
    if not form.through_onnx:
        if name == "onnx":
            from mobilenext.export.to_onnx import write_onnx

            write_onnx(network, target, image_size)
        else:
            from mobilenext.export.to_paddle import write_paddle

            write_paddle(network, target, image_size)
        return form.file
    from mobilenext.export.to_onnx import write_onnx

    with scratch_folder() as scratch:
        onnx_file = scratch / "model.onnx"
        write_onnx(network, onnx_file, image_size)
        if name == "openvino":
            from mobilenext.export.to_openvino import write_openvino

            write_openvino(onnx_file, target)
        elif name == "ncnn":
            from mobilenext.export.to_ncnn import write_ncnn

            write_ncnn(onnx_file, target, image_size)
        else:
            from mobilenext.export.to_tflite import write_tflite

            write_tflite(onnx_file, target)
    return form.file
