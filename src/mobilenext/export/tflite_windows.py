"""Operators of TFLite whose window moves over a map: convolutions and pools, padded as ONNX pads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from mobilenext.errors import DataError
from mobilenext.export.tflite_file import TFLiteFile

Op = schema.BuiltinOperator
NONE, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
LOWEST = float(np.finfo(np.float32).min)  # never the largest of a window


class WindowGraph(TFLiteFile):
    """What an ONNX graph is made of, and those of its operators that have a window, one method for each."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Begin a file without operators; every tensor of `graph` has a shape."""
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

    # --- convolutions

    def _conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        weight = self._constants[node.input[1]]  # [out, in / groups, k, k]
        bias = self._constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        groups, strides = attributes.get("group", 1), attributes.get("strides", [1, 1])
        dilations = attributes.get("dilations", [1, 1])
        window = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], dilations, strict=True)]
        activation, name = self._with_clip(node)
        image, padding = self._padded(node, attributes, strides, window, 0.0)
        options = {"strideH": strides[0], "strideW": strides[1], "padding": padding}
        options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        options["fusedActivationFunction"] = activation
        channels = self._shapes[node.input[0]][1]
        if groups == channels and groups > 1:
            kernel = weight.transpose(1, 2, 3, 0)  # [1, k, k, out]
            options["depthMultiplier"] = len(weight) // channels
            inputs = [image, self._constant(node.input[1], kernel), self._constant(f"{name}/bias", bias)]
            version = 1 if list(dilations) == [1, 1] else 2
            self._operator(
                Op.DEPTHWISE_CONV_2D, inputs, [self._activation(name)], "DepthwiseConv2D", version, **options
            )
        else:
            self._grouped(node, image, name, weight, bias, options)

    def _grouped(
        self,
        node: onnx.NodeProto,
        image: int,
        name: str,
        weight: np.ndarray,
        bias: np.ndarray,
        options: dict[str, int],
    ) -> None:
        """Add a convolution of the tensor `image` to the ONNX tensor `name`, one of TFLite for each group."""
        groups = self._shapes[node.input[0]][1] // weight.shape[1]
        parts = [image] if groups == 1 else self._parts(f"{name}/in", image, groups)
        outputs = []
        for number, part in enumerate(parts):
            share = slice(number * len(weight) // groups, (number + 1) * len(weight) // groups)
            kernel = weight[share].transpose(0, 2, 3, 1)  # [out / groups, k, k, in / groups]
            shape = self._in_order_of_tflite(node.output[0])
            output = self._activation(name if groups == 1 else f"{name}/{number}", [*shape[:3], len(kernel)])
            inputs = [part, self._constant(f"{node.input[1]}/{number}", kernel)]
            inputs.append(self._constant(f"{name}/bias{number}", bias[share]))
            self._operator(Op.CONV_2D, inputs, [output], "Conv2D", **options)
            outputs.append(output)
        if groups > 1:
            target = self._activation(name)
            self._operator(Op.CONCATENATION, outputs, [target], "Concatenation", axis=3, fusedActivationFunction=NONE)

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
            raise unknown(node, f"clip to {limits}")

    def _parts(self, name: str, image: int, groups: int) -> list[int]:
        """Return the channels of `image` in equal parts."""
        _, height, width, channels = self._tensors[image].shape
        share = channels // groups
        parts = [self._activation(f"{name}{number}", [0, height, width, share]) for number in range(groups)]
        for number, part in enumerate(parts):
            self._slice_channels(f"{name}{number}", image, part, number * share, share)
        return parts

    def _slice_channels(self, name: str, source: int, target: int, begin: int, size: int) -> None:
        others = len(self._tensors[source].shape) - 1
        self._cut(name, source, target, [0] * others + [begin], [-1] * others + [size])

    def _cut(self, name: str, source: int, target: int, begins: Sequence[int], sizes: Sequence[int]) -> None:
        """Copy a part of a tensor; the size -1 is all that follows."""
        inputs = [source, self._constant(f"{name}/begin", np.array(begins, np.int32))]
        inputs.append(self._constant(f"{name}/size", np.array(sizes, np.int32)))
        self._operator(Op.SLICE, inputs, [target], "Slice")

    # --- pools

    def _maxpool(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        image, options = self._pool_options(node, attributes, LOWEST)
        self._operator(Op.MAX_POOL_2D, [image], [self._activation(node.output[0])], "Pool2D", **options)

    def _averagepool(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        """Add a mean. TFLite does not count its padding "SAME"; what is padded before is counted."""
        counted, name = attributes.get("count_include_pad", 0), node.output[0]
        image, options = self._pool_options(node, attributes, 0.0, may_be_same=not counted)
        if image == self._index[node.input[0]] or counted:
            self._operator(Op.AVERAGE_POOL_2D, [image], [self._activation(name)], "Pool2D", **options)
            return
        mean = self._activation(f"{name}/mean", self._in_order_of_tflite(name))
        self._operator(Op.AVERAGE_POOL_2D, [image], [mean], "Pool2D", **options)
        counts = []  # of the pixels of the map in a window, along each axis
        for axis, stride in enumerate((options["strideH"], options["strideW"])):
            begins = np.arange(self._shapes[name][2 + axis]) * stride - attributes["pads"][axis]
            ends = begins + attributes["kernel_shape"][axis]
            counts.append(np.minimum(ends, self._shapes[node.input[0]][2 + axis]) - np.maximum(begins, 0))
        ratios = (np.prod(attributes["kernel_shape"]) / np.outer(*counts)).astype(np.float32)[None, :, :, None]
        inputs = [mean, self._constant(f"{name}/ratios", ratios)]
        self._operator(Op.MUL, inputs, [self._activation(name)], "Mul", fusedActivationFunction=NONE)

    def _pool_options(
        self, node: onnx.NodeProto, attributes: dict[str, Any], filling: float, may_be_same: bool = True
    ) -> tuple[int, dict[str, int]]:
        """Return the tensor to pool and the options of the pool."""
        kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        odd = attributes.get("ceil_mode", 0) or list(attributes.get("dilations", [1, 1])) != [1, 1]
        if odd or len(node.output) > 1:
            raise unknown(node, "pool with gaps, positions or incomplete windows")
        image, padding = self._padded(node, attributes, strides, kernel, filling, may_be_same)
        options = {"strideH": strides[0], "strideW": strides[1], "filterHeight": kernel[0], "filterWidth": kernel[1]}
        return image, options | {"padding": padding, "fusedActivationFunction": NONE}

    # --- padding

    def _padded(
        self,
        node: onnx.NodeProto,
        attributes: dict[str, Any],
        strides: Sequence[int],
        window: Sequence[int],
        filling: float,
        may_be_same: bool = True,
    ) -> tuple[int, int]:
        """Return the tensor that a window moves over, and TFLite's name for its padding.

        A padding without a name is an operator.

        Args:
            node: takes a map; its attributes have the padding.
            attributes: of the node.
            strides, window: the steps and the size of the window, vertical and horizontal.
            filling: the padding's value, for the operator.
            may_be_same: whether TFLite's "SAME" does what the node asks for.
        """
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise unknown(node, "automatic padding")
        image, name = self._index[node.input[0]], node.output[0]
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        if not any((top, left, bottom, right)):
            return image, schema.Padding.VALID
        _, channels, *sides = self._shapes[node.input[0]]
        same = []
        for side, stride, size in zip(sides, strides, window, strict=True):
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            same.append((total // 2, total - total // 2))
        if may_be_same and same == [(top, bottom), (left, right)]:
            return image, schema.Padding.SAME
        padded = self._activation(f"{name}/padded", [0, sides[0] + top + bottom, sides[1] + left + right, channels])
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        inputs = [image, self._constant(f"{name}/pads", amounts)]
        if filling:
            inputs.append(self._constant(f"{name}/filling", np.array([filling], np.float32)))
            self._operator(Op.PADV2, inputs, [padded], "PadV2")
        else:
            self._operator(Op.PAD, inputs, [padded], "Pad")
        return padded, schema.Padding.VALID


def unknown(node: onnx.NodeProto, what: str) -> DataError:
    """Return the error for a node that has no counterpart here."""
    return DataError(
        f"the ONNX node {node.name or node.output[0]} ({node.op_type}) cannot be written as TFLite: unknown {what}; "
        "this export knows the operators of MobileNeXt, MobileNetV2, their detectors and networks of cells; onnx takes "
        "others, too"
    )
