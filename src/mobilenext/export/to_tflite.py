"""TFLite (LiteRT), built from the ONNX file with LiteRT's own schema.

The existing converters need TensorFlow (600 MB) or PyTorch; our networks have a dozen operators, so their graph is
written directly. Images are NHWC in TFLite: weights are transposed here, once, and no tensor at run time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper, shape_inference

from mobilenext.errors import DataError
from mobilenext.export.tflite_file import TO_NHWC, TFLiteFile
from mobilenext.files import write_atomically

Op = schema.BuiltinOperator
NONE, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6


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


class _Graph(TFLiteFile):
    """The operators of an ONNX graph as those of TFLite."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(
            {
                value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]  # 0: the batch
                for value in (*graph.input, *graph.value_info, *graph.output)
            }
        )
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(value.name for value in graph.output)
        self._next = {name: node for node in graph.node for name in node.input}
        self._done: set[str] = set()  # nodes that became part of the one before them
        self._channels_last: set[str] = set()  # ONNX names of maps that are NHWC in ONNX, too

        (image,) = graph.input
        self._activation(image.name)
        for node in graph.node:
            if node.output[0] not in self._done:
                emit = getattr(self, f"_{node.op_type.lower()}", None)
                if emit is None:
                    raise _unknown(node, "operator")
                emit(node, {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute})

    # --- operators, one method for each of ONNX

    def _conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        source, weight_name, *bias_name = node.input
        weight = self._constants[weight_name]  # [out, in / groups, k, k]
        groups, strides = attributes.get("group", 1), attributes.get("strides", [1, 1])
        if list(attributes.get("dilations", [1, 1])) != [1, 1] or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise _unknown(node, "dilation or automatic padding")
        bias = self._constants[bias_name[0]] if bias_name else np.zeros(len(weight), np.float32)
        channels = self._shapes[source][1]
        activation, name = self._with_clip(node)
        image, padding = self._padded(node, attributes, strides, weight.shape[2:])
        options = {"strideH": strides[0], "strideW": strides[1], "padding": padding}
        options["fusedActivationFunction"] = activation
        if groups == channels and groups > 1:
            kernel = weight.transpose(1, 2, 3, 0)  # [1, k, k, out]
            options["depthMultiplier"] = len(weight) // channels
            inputs = [image, self._constant(weight_name, kernel), self._constant(f"{name}/bias", bias)]
            self._operator(Op.DEPTHWISE_CONV_2D, inputs, [self._activation(name)], "DepthwiseConv2D", **options)
            return
        parts = [image] if groups == 1 else self._parts(f"{name}/in", image, source, groups)
        outputs = []
        for number, part in enumerate(parts):
            share = slice(number * len(weight) // groups, (number + 1) * len(weight) // groups)
            kernel = weight[share].transpose(0, 2, 3, 1)  # [out / groups, k, k, in / groups]
            shape = [self._shapes[node.output[0]][axis] for axis in TO_NHWC]
            output = self._activation(name if groups == 1 else f"{name}/{number}", [*shape[:3], len(kernel)])
            inputs = [part, self._constant(f"{weight_name}/{number}", kernel)]
            inputs.append(self._constant(f"{name}/bias{number}", bias[share]))
            self._operator(Op.CONV_2D, inputs, [output], "Conv2D", **options)
            outputs.append(output)
        if groups > 1:
            self._operator(
                Op.CONCATENATION, outputs, [self._activation(name)], "Concatenation", axis=3,
                fusedActivationFunction=NONE,
            )  # fmt: skip

    def _with_clip(self, node: onnx.NodeProto) -> tuple[int, str]:
        """Return RELU6 and the clip's output where only a clip uses the node's output; else no activation."""
        name = node.output[0]
        follower = self._next.get(name)
        if follower is None or follower.op_type != "Clip" or self._uses[name] != 1:
            return NONE, name
        self._check_relu6(follower)
        self._done.add(follower.output[0])
        return RELU6, follower.output[0]

    def _check_relu6(self, node: onnx.NodeProto) -> None:
        limits = [float(self._constants[name]) for name in node.input[1:] if name in self._constants]
        if limits != [0.0, 6.0]:
            raise _unknown(node, f"clip to {limits}")

    def _clip(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._check_relu6(node)
        self._operator(Op.RELU6, [self._index[node.input[0]]], [self._activation(node.output[0])])

    def _padded(
        self, node: onnx.NodeProto, attributes: dict[str, Any], strides: Sequence[int], kernel: Sequence[int]
    ) -> tuple[int, int]:
        """Return the tensor to convolve and TFLite's name for its padding; a padding without a name is an operator."""
        image, name = self._index[node.input[0]], node.output[0]
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        if not any((top, left, bottom, right)):
            return image, schema.Padding.VALID
        sides = self._shapes[node.input[0]][2:]
        same = []
        for side, stride, size in zip(sides, strides, kernel, strict=True):
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            same.append((total // 2, total - total // 2))
        if same == [(top, bottom), (left, right)]:
            return image, schema.Padding.SAME
        shape = [0, sides[0] + top + bottom, sides[1] + left + right, self._shapes[node.input[0]][1]]
        padded = self._activation(f"{name}/padded", shape)
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        self._operator(Op.PAD, [image, self._constant(f"{name}/pads", amounts)], [padded], "Pad")
        return padded, schema.Padding.VALID

    def _parts(self, name: str, image: int, source: str, groups: int) -> list[int]:
        """Return the channels of `image` in equal parts."""
        _, channels, height, width = self._shapes[source]
        if self._tensors[image].shape[1:3] != [height, width]:  # padded
            height, width = self._tensors[image].shape[1:3]
        share = channels // groups
        parts = [self._activation(f"{name}{number}", [0, height, width, share]) for number in range(groups)]
        for number, part in enumerate(parts):
            self._slice_channels(f"{name}{number}", image, part, number * share, share)
        return parts

    def _slice_channels(self, name: str, source: int, target: int, begin: int, size: int) -> None:
        rank = len(self._tensors[source].shape)
        begins = np.array([0] * (rank - 1) + [begin], np.int32)
        sizes = np.array([-1] * (rank - 1) + [size], np.int32)
        inputs = [source, self._constant(f"{name}/begin", begins), self._constant(f"{name}/size", sizes)]
        self._operator(Op.SLICE, inputs, [target], "Slice")

    def _slice(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        starts, ends, axes, *steps = (self._constants[name].tolist() for name in node.input[1:])
        if axes != [1] or steps not in ([], [[1]]):
            raise _unknown(node, f"slice of the axes {axes}")
        channels = self._shapes[node.input[0]][1]
        begin, end = (value + channels if value < 0 else min(value, channels) for value in (starts[0], ends[0]))
        target = self._activation(node.output[0])
        self._slice_channels(node.output[0], self._index[node.input[0]], target, begin, end - begin)

    def _split(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes.get("axis", 0) != 1:
            raise _unknown(node, "split of another axis than the channels")
        begin = 0
        for name in node.output:
            size = self._shapes[name][1]
            self._slice_channels(name, self._index[node.input[0]], self._activation(name), begin, size)
            begin += size

    def _concat(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes["axis"] != 1:  # the channels of maps, or the priors of arrays
            raise _unknown(node, "concatenation along another axis than the second")
        inputs = [self._index[name] for name in node.input]
        target = self._activation(node.output[0])
        axis = 1 if len(self._tensors[target].shape) < 4 else 3
        self._operator(Op.CONCATENATION, inputs, [target], "Concatenation", axis=axis, fusedActivationFunction=NONE)

    def _transpose(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        """Bring channels to the end, where they are in TFLite already; `_reshape` must follow."""
        follower = self._next.get(node.output[0])
        if list(attributes["perm"]) != list(TO_NHWC) or follower is None or follower.op_type != "Reshape":
            raise _unknown(node, f"transposition by {list(attributes['perm'])}")
        self._index[node.output[0]] = self._index[node.input[0]]
        self._channels_last.add(node.output[0])

    def _reshape(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        shape, before = self._shapes[node.output[0]], self._shapes[node.input[0]]
        # A map of a single cell has the same order in both layouts.
        other_order = len(before) == 4 and before[2:] != [1, 1] and node.input[0] not in self._channels_last
        if other_order or len(shape) == 4 or 0 in shape[1:]:  # the batch alone is free
            raise _unknown(node, f"reshape to {shape}")
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
            raise _unknown(node, "arithmetic with a constant that is no single number")
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
            raise _unknown(node, f"mean over the axes {axes}")
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
            raise _unknown(node, "scaled or transposed product")
        weight = self._constants[node.input[1]]
        weight = weight if attributes.get("transB", 0) else weight.T  # [out, in]
        bias = self._constants[node.input[2]].ravel() if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        self._linear(node, node.output[0], weight, bias)

    def _linear(self, node: onnx.NodeProto, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        inputs = [self._index[node.input[0]], self._constant(node.input[1], weight)]
        inputs.append(self._constant(f"{name}/bias", bias))
        target = self._activation(name, [0, len(weight)])
        self._operator(Op.FULLY_CONNECTED, inputs, [target], "FullyConnected", fusedActivationFunction=NONE)


def _unknown(node: onnx.NodeProto, what: str) -> DataError:
    return DataError(
        f"the ONNX node {node.name or node.output[0]} ({node.op_type}) cannot be written as TFLite: unknown {what}; "
        "this export knows the operators of MobileNeXt, MobileNetV2 and their detectors; onnx takes others, too"
    )
