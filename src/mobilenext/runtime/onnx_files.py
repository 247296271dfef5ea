"""The files of an ONNX model: its weights may lie in others beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from mobilenext.errors import DataError

# Operators that leave the order and the meaning of scores as they are.
PASSING = {
    *("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "QuantizeLinear", "DequantizeLinear"),
}


def external_files(path: Path) -> list[str]:
    """Return the files that hold tensors of the model in `path`, sorted, relative to its folder.

    Raises:
        DataError: the model cannot be read, or a file is missing or lies outside the folder.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of the protobuf library, which has no public base class
        raise DataError(
            f"{path} cannot be read as an ONNX model: {str(error)[:200]}; it may be cut short: fetch or export it again"
        ) from error
    locations = {ExternalDataInfo(tensor).location for tensor in _tensors(model) if uses_external_data(tensor)}
    # A download cache links to files in a folder of its own: there they must be neighbours.
    folders = {path.parent.resolve(), path.resolve().parent}
    for location in sorted(locations):
        file = path.parent / location
        relative = location and not Path(location).is_absolute()
        if not relative or not any(file.resolve().is_relative_to(folder) for folder in folders):
            raise DataError(
                f"{path} keeps weights in {location!r}, outside its folder; expected all its files in one folder: "
                "export it again"
            )
        if not file.is_file():
            raise DataError(f"{path} keeps weights in {file}, which is not there: put that file beside it")
    return sorted({Path(location).as_posix() for location in locations})


def ends_in_softmax(path: Path, output: str) -> bool:
    """Return whether an output is that of a softmax, whatever is done to its shape and precision after it."""
    model = onnx.load(str(path), load_external_data=False)
    makers = {name: node for node in model.graph.node for name in node.output}
    seen: set[str] = set()
    while output in makers and output not in seen:
        seen.add(output)
        if makers[output].op_type not in PASSING:
            return bool(makers[output].op_type == "Softmax")
        output = makers[output].input[0]
    return False


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model, those inside its nodes and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t
        # A field that is not there reads as an empty message.
        for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
            yield from (sparse.values, sparse.indices)
        for graph in attribute.graphs:
            yield from _of_graph(graph)
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
