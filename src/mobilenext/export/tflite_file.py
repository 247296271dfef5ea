"""The file of a TFLite network while it is built: tensors, buffers and operators in LiteRT's own schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TO_NHWC = (0, 2, 3, 1)


class TFLiteFile:
    """Tensors and operators, in the order in which they are added; a tensor is known by its ONNX name."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        """Begin an empty file; `shapes` are those of the ONNX tensors, with 0 for the batch."""
        self._shapes = shapes
        self._index: dict[str, int] = {}  # of a tensor in TFLite, by its ONNX name
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # the first is the empty one
        self._operators: list[Any] = []
        self._codes: list[tuple[int, int]] = []  # operators and their versions

    def serialized(self, source: str, outputs: Sequence[str]) -> bytes:
        """Return the bytes of the file of a network from the tensor `source` to `outputs`, ONNX names."""
        ends = [(name, self._index[name]) for name in outputs]
        subgraph = schema.SubGraphT()
        subgraph.name, subgraph.tensors, subgraph.operators = "main", self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = [self._index[source]], [index for _, index in ends]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_named(source, self._index[source])]
        signature.outputs = [_named(*end) for end in ends]
        model = schema.ModelT()
        model.version, model.description = 3, "mobilenext"
        model.subgraphs, model.buffers, model.signatureDefs = [subgraph], self._buffers, [signature]
        model.operatorCodes = []
        for number, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _activation(self, name: str, shape: Sequence[int] | None = None) -> int:
        """Add a tensor between operators; `shape` is NHWC with 0 for the batch, by default that of the ONNX tensor."""
        if shape is None:
            shape = self._in_order_of_tflite(name)
        index = self._tensor(name, [side or 1 for side in shape], schema.TensorType.FLOAT32, 0)
        self._tensors[index].shapeSignature = [side or -1 for side in shape]
        self._index[name] = index
        return index

    def _in_order_of_tflite(self, name: str) -> list[int]:
        """Return the shape of an ONNX tensor, with channels last where it is a map."""
        sides = self._shapes[name]
        return [sides[axis] for axis in TO_NHWC] if len(sides) == 4 else sides

    def _constant(self, name: str, values: np.ndarray) -> int:
        """Add weights, or the small numbers that are inputs of an operator."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        kind = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        return self._tensor(name, list(values.shape), kind, len(self._buffers) - 1)

    def _tensor(self, name: str, shape: list[int], kind: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(
        self, code: int, inputs: list[int], outputs: list[int], kind: str = "", version: int = 1, **options: Any
    ) -> None:
        """Append an operator; `kind` names the table of its options in the schema."""
        if (code, version) not in self._codes:
            self._codes.append((code, version))
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index((code, version))
        operator.inputs, operator.outputs = inputs, outputs
        if kind:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for name, value in options.items():
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
