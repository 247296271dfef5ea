"""TFLite (LiteRT), built from the ONNX file with LiteRT's own schema.

The existing converters need TensorFlow (600 MB) or PyTorch; our networks have a dozen operators, so their graph is
written directly. Images are NHWC in TFLite: weights are transposed here, once, and no tensor at run time.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import shape_inference

from mobilenext.export.tflite_file import TO_NHWC
from mobilenext.export.tflite_windows import WindowGraph, unknown
from mobilenext.files import write_atomically

Op = schema.BuiltinOperator
NONE = schema.ActivationFunctionType.NONE


def write_tflite(onnx_file: Path, tflite_file: Path) -> None:
    """Write a network in float32: input ``image`` [batch, S, S, 3], outputs as in the ONNX file.

    Raises:
        DataError: an operator or attribute that is not known here.
        OutputError: the file cannot be written.
    """
    model = shape_inference.infer_shapes(onnx.load(str(onnx_file)), strict_mode=True)
    (image,) = model.graph.input
    outputs = [output.name for output in model.graph.output]
    write_atomically(tflite_file, _Graph(model.graph).serialized(image.name, outputs))


class _Graph(WindowGraph):
    """All operators of an ONNX graph as those of TFLite."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self._channels_last: set[str] = set()  # ONNX names of maps that are NHWC in ONNX, too
        (image,) = graph.input
        self._activation(image.name)
        for node in graph.node:
            if node.output[0] not in self._done:
                emit = getattr(self, f"_{node.op_type.lower()}", None)
                if emit is None:
                    raise unknown(node, "operator")
                emit(node, {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute})

    # --- operators, one method for each of ONNX

    def _clip(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._check_relu6(node)
        self._operator(Op.RELU6, [self._index[node.input[0]]], [self._activation(node.output[0])])

    def _slice(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        starts, ends, axes, *steps = (self._constants[name].tolist() for name in node.input[1:])
        sides = self._shapes[node.input[0]]
        begins, sizes = [0] * len(sides), [-1] * len(sides)
        for axis, *limits in zip(axes, starts, ends, strict=True):
            side = sides[axis]
            if not side or any(step != 1 for step in chain(*steps)):
                raise unknown(node, f"slice of the axes {axes} in steps of {[*chain(*steps)]}")
            begin, end = (max(limit + side, 0) if limit < 0 else min(limit, side) for limit in limits)
            begins[axis], sizes[axis] = begin, end - begin
        if len(sides) == 4:
            begins, sizes = ([values[axis] for axis in TO_NHWC] for values in (begins, sizes))
        self._cut(node.output[0], self._index[node.input[0]], self._activation(node.output[0]), begins, sizes)

    def _split(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes.get("axis", 0) != 1:
            raise unknown(node, "split of another axis than the channels")
        begin = 0
        for name in node.output:
            size = self._shapes[name][1]
            self._slice_channels(name, self._index[node.input[0]], self._activation(name), begin, size)
            begin += size

    def _concat(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes["axis"] != 1:  # the channels of maps, or the priors of arrays
            raise unknown(node, "concatenation along another axis than the second")
        inputs = [self._index[name] for name in node.input]
        target = self._activation(node.output[0])
        axis = 1 if len(self._tensors[target].shape) < 4 else 3
        self._operator(Op.CONCATENATION, inputs, [target], "Concatenation", axis=axis, fusedActivationFunction=NONE)

    def _transpose(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        """Bring channels to the end, where they are in TFLite already; `_reshape` must follow."""
        follower = self._next.get(node.output[0])
        if list(attributes["perm"]) != list(TO_NHWC) or follower is None or follower.op_type != "Reshape":
            raise unknown(node, f"transposition by {list(attributes['perm'])}")
        self._index[node.output[0]] = self._index[node.input[0]]
        self._channels_last.add(node.output[0])

    def _reshape(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        shape, before = self._shapes[node.output[0]], self._shapes[node.input[0]]
        # A map of a single cell has the same order in both layouts.
        other_order = len(before) == 4 and before[2:] != [1, 1] and node.input[0] not in self._channels_last
        if other_order or len(shape) == 4 or 0 in shape[1:]:  # the batch alone is free
            raise unknown(node, f"reshape to {shape}")
        sizes = self._constant(f"{node.output[0]}/shape", np.array([-1, *shape[1:]], np.int32))
        inputs = [self._index[node.input[0]], sizes]
        self._operator(Op.RESHAPE, inputs, [self._activation(node.output[0])], "Reshape", newShape=[-1, *shape[1:]])

    def _add(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._binary(node, Op.ADD, "Add")

    def _mul(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._binary(node, Op.MUL, "Mul")

    def _binary(self, node: onnx.NodeProto, code: int, kind: str) -> None:
        numbers = {name: self._constants[name] for name in node.input if name in self._constants}
        if any(values.size != 1 for values in numbers.values()) or len(numbers) == len(node.input):
            raise unknown(node, "arithmetic with a constant that is no single number")
        inputs = [
            self._constant(f"{node.output[0]}/{name}", numbers[name].reshape(1))
            if name in numbers
            else self._index[name]
            for name in node.input
        ]
        self._operator(code, inputs, [self._activation(node.output[0])], kind, fusedActivationFunction=NONE)

    def _relu(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._operator(Op.RELU, [self._index[node.input[0]]], [self._activation(node.output[0])])

    def _sigmoid(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._operator(Op.LOGISTIC, [self._index[node.input[0]]], [self._activation(node.output[0])])

    def _reducemean(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        axes = attributes.get("axes") or self._constants[node.input[1]].tolist()
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise unknown(node, f"mean over the axes {axes}")
        keep = bool(attributes.get("keepdims", 1))
        axis = self._constant(f"{node.output[0]}/axes", np.array([1, 2], np.int32))
        inputs = [self._index[node.input[0]], axis]
        self._operator(Op.MEAN, inputs, [self._activation(node.output[0])], "Reducer", keepDims=keep)

    def _matmul(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        weight = self._constants[node.input[1]].T  # [out, in]
        name, bias = node.output[0], np.zeros(len(weight), np.float32)
        follower = self._next.get(name)
        if follower is not None and follower.op_type == "Add" and self._uses[name] == 1:
            (other,) = (operand for operand in follower.input if operand != name)
            if other in self._constants:
                self._done.add(follower.output[0])
                name, bias = follower.output[0], self._constants[other].ravel()
        self._linear(node, name, weight, bias)

    def _gemm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA", 0):
            raise unknown(node, "scaled or transposed product")
        weight = self._constants[node.input[1]]
        weight = weight if attributes.get("transB", 0) else weight.T  # [out, in]
        bias = self._constants[node.input[2]].ravel() if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        self._linear(node, node.output[0], weight, bias)

    def _linear(self, node: onnx.NodeProto, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        inputs = [self._index[node.input[0]], self._constant(node.input[1], weight)]
        inputs.append(self._constant(f"{name}/bias", bias))
        target = self._activation(name, [0, len(weight)])
        self._operator(Op.FULLY_CONNECTED, inputs, [target], "FullyConnected", fusedActivationFunction=NONE)
