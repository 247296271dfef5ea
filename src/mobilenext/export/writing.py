"""Write a network in any format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobilenext.export.formats import FORMATS, check_format
from mobilenext.machine.temporary import scratch_folder

if TYPE_CHECKING:
    from mobilenext.models.network import Network


# Runtimes of these formats simplify a graph when they open it, to the same operators; the others' converters do not.
SIMPLIFIED_WHEN_OPENED = frozenset({"onnx", "openvino"})


def write_format(
    network: Network, name: str, folder: Path, image_size: int, graph: Path | None = None, *, kept: bool = True
) -> str:
    """Write a network (evaluation mode) into `folder` and return the name of the model file.

    Args:
        network: its batch norms should be folded.
        name: of the format.
        folder: exists.
        image_size: pixels, of the square images.
        graph: where the ONNX file goes that formats other than Paddle's are made from; None: it is not kept.
        kept: False for files that are opened at once and never read by people: they take less time to write.

    Raises:
        UsageError, MissingDependency: as `check_format`. CheckFailed: a converter fails.
    """
    check_format(name)
    file = FORMATS[name].file
    if name in ("paddle", "paddle-legacy"):
        from mobilenext.export.to_paddle import write_paddle

        write_paddle(network, folder / file, image_size)
        return file
    from mobilenext.export.to_onnx import write_onnx

    with scratch_folder() as scratch:
        onnx_file = graph or scratch / "network.onnx"
        write_onnx(network, onnx_file, image_size, simplified=kept or name not in SIMPLIFIED_WHEN_OPENED)
        convert_onnx(name, onnx_file, folder / file, image_size, network.outputs)
    return file


def convert_onnx(name: str, onnx_file: Path, target: Path, image_size: int, outputs: Sequence[str]) -> None:
    """Write an ONNX file in a format that is made from ONNX.

    Args:
        name: of the format: onnx, openvino, ncnn, mnn or tflite.
        onnx_file: with the input ``image`` and the `outputs`.
        target: the model file; what lies beside it gets the same stem.
        image_size: pixels, of the square images.
        outputs: their names.

    Raises:
        CheckFailed, DataError: the converter fails or does not know an operator.
    """
    if name == "onnx":
        shutil.copyfile(onnx_file, target)
    elif name == "openvino":
        from mobilenext.export.to_openvino import write_openvino

        write_openvino(onnx_file, target)
    elif name == "ncnn":
        from mobilenext.export.to_ncnn import write_ncnn

        write_ncnn(onnx_file, target, image_size, outputs)
    elif name == "mnn":
        from mobilenext.export.to_mnn import write_mnn

        write_mnn(onnx_file, target)
    else:
        from mobilenext.export.to_tflite import write_tflite

        write_tflite(onnx_file, target)
