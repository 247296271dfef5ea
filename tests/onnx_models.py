"""Small ONNX classifiers in the forms that other projects' exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WEIGHT = np.random.default_rng(7).normal(size=(3, 5)).astype(np.float32)  # the mean of each color to five logits
SIZE = 8


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Path:
    import onnx

    make = onnx.helper
    graph = make.make_graph(
        nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def classifier(
    path: Path,
    *,
    batch: int | str | None = "n",
    layout: str = "NCHW",
    size: int | str | None = SIZE,
    dtype: str = "float32",
    end: str = "",  # the operator behind the logits: Softmax, LogSoftmax, Sigmoid, ArgMax
    shape: list[int] | None = None,  # of the output, by a reshape inside
    features: bool = False,  # an output before the scores
    weight: Any = WEIGHT,
    name: str = "pixels",
) -> Path:
    """A network whose logits are the means of the three colors times WEIGHT."""
    import onnx

    make, types = onnx.helper, onnx.TensorProto
    sides = {"N": batch, "C": 3, "H": size, "W": size}
    element = make.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [make.make_node("Cast", [name], ["floats"], to=types.FLOAT)]
    constants = {"weight": weight}
    if "N" not in layout:
        nodes.append(make.make_node("Unsqueeze", ["floats", "first"], ["batched"]))
        constants["first"] = np.array([0])
    else:
        nodes.append(make.make_node("Identity", ["floats"], ["batched"]))
    axes = [2, 3] if layout.endswith("CHW") else [1, 2]
    nodes.append(make.make_node("ReduceMean", ["batched"], ["means"], axes=axes, keepdims=0))
    nodes.append(make.make_node("MatMul", ["means", "weight"], ["logits"]))
    last = "logits"
    if end:
        nodes.append(
            make.make_node(end, [last], ["ended"], axis=1)
            if end != "Sigmoid"
            else make.make_node(end, [last], ["ended"])
        )
        last = "ended"
    if shape is not None:
        nodes.append(make.make_node("Reshape", [last, "shape"], ["shaped"]))
        constants["shape"] = np.array(shape)
        last = "shaped"
    outputs = ["means", last] if features else [last]
    if dtype == "float16":
        nodes.append(make.make_node("Cast", [last], ["short"], to=types.FLOAT16))
        outputs[-1] = "short"
    kinds = {"short": types.FLOAT16, "ended": types.INT64 if end == "ArgMax" else types.FLOAT}
    return save(
        path,
        nodes,
        [make.make_tensor_value_info(name, element, [sides[side] for side in layout])],
        [make.make_tensor_value_info(each, kinds.get(each, types.FLOAT), None) for each in outputs],
        constants,
    )
