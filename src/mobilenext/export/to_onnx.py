"""ONNX, by paddle2onnx: checked, simplified, with names that stay.

paddle2onnx may lose attributes that Paddle stores in double precision (Paddle2ONNX issue 1646), and reports success
when it has failed (Paddle issue 69128); so the batch norms are read back, and the file is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobilenext.errors import CheckFailed
from mobilenext.export.formats import ONNX_PACKAGES
from mobilenext.export.to_paddle import write_paddle
from mobilenext.machine.captured import captured_output
from mobilenext.machine.packages import require
from mobilenext.machine.temporary import scratch_folder

if TYPE_CHECKING:
    import onnx
    from paddle import nn

    from mobilenext.models.network import Network

OPSET = 13  # the first with quantization per channel
# Operators that simplification removes from a graph of convolutions: one that is left computes shapes at run time.
SHAPE_OPERATORS = frozenset({"Shape", "Reshape", "Identity", "Gather"})


def write_onnx(network: Network, onnx_file: Path, image_size: int, *, simplified: bool = True) -> None:
    """Write a network (evaluation mode): input ``image`` [batch, 3, S, S], outputs with the names that it gives them.

    Args:
        network: its batch norms should be folded.
        onnx_file: is written.
        image_size: pixels, of the square images.
        simplified: False leaves the graph as the converter makes it, with constants as nodes. ONNX Runtime and OpenVINO
            simplify what they open themselves; converters need it done, and loading onnxslim takes a second.

    Raises:
        CheckFailed: the converter fails, or its graph is not that of the network.
        MissingDependency: a package is not installed.
    """
    require(ONNX_PACKAGES, "onnx", "ONNX export")
    import onnx

    epsilons = used_epsilons(network)
    model = convert(network, image_size)
    check_batch_norms(model, epsilons)
    if simplified:
        model = simplify(model, network.shape_operators)
    name_tensors(model, network.outputs)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, onnx_file)


def convert(network: nn.Layer, image_size: int) -> onnx.ModelProto:
    """Return the graph that paddle2onnx makes of the network; `write_onnx` checks it."""
    import onnx
    import paddle2onnx

    with scratch_folder() as folder:
        saved = folder / "network.json"
        write_paddle(network, saved, image_size)
        target = folder / "network.onnx"
        with captured_output() as messages:
            # Its default optimizer would install packages on the way.
            paddle2onnx.export(
                str(saved), str(saved.with_suffix(".pdiparams")), str(target), opset_version=OPSET, optimize_tool="none"
            )
        if not target.is_file() or not target.stat().st_size:
            raise CheckFailed(f"paddle2onnx wrote nothing; it said: {''.join(messages)[-500:].strip() or 'nothing'}")
        return onnx.load(str(target))


def used_epsilons(network: nn.Layer) -> list[float]:
    """Return the epsilons of the batch norms that a tensor passes; a folded network has none.

    Call it before `convert`, which leaves a network without hooks.
    """
    import paddle
    from paddle import nn

    epsilons: list[float] = []
    layers = [layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    handles = [
        layer.register_forward_post_hook(lambda layer, inputs, output: epsilons.append(layer._epsilon))
        for layer in layers
    ]
    if layers:
        with paddle.no_grad():
            size = getattr(network, "input_size", None) or 32
            network(paddle.zeros([1, 3, size, size]))
    for handle in handles:
        handle.remove()
    return epsilons


def check_batch_norms(model: onnx.ModelProto, epsilons: Sequence[float]) -> None:
    """Raise CheckFailed unless the graph's batch norms have these epsilons."""
    in_graph = sorted(
        next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
    )
    expected = sorted(epsilons)
    if len(in_graph) != len(expected) or any(abs(a - b) > 1e-6 * b for a, b in zip(in_graph, expected, strict=True)):
        raise CheckFailed(
            f"the ONNX file has {len(in_graph)} batch norms with the epsilons {sorted(set(in_graph))}; the network has "
            f"{len(expected)} with {sorted(set(expected))}. This is a fault of the converter: try another version of "
            "paddle2onnx"
        )


def simplify(model: onnx.ModelProto, allowed: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph with constants folded and without identities.

    Args:
        model: may be changed.
        allowed: those of SHAPE_OPERATORS that the graph may keep.

    Raises:
        CheckFailed: another one is left.
    """
    import onnxslim

    model = onnxslim.slim(model)
    left = sorted({node.op_type for node in model.graph.node} & SHAPE_OPERATORS - set(allowed))
    if left:
        raise CheckFailed(
            f"the simplified ONNX graph still has {', '.join(left)}; another version of onnxslim may help"
        )
    return model


def name_tensors(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Name the input ``image`` and the outputs as asked, each with the free dimension ``batch``, and number the nodes.

    Args:
        model: is changed.
        outputs: their names from now on.
    """
    names = {value.name: name for value, name in zip(model.graph.output, outputs, strict=True)}
    rename_tensors(model, {model.graph.input[0].name: "image", **names})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
    del model.graph.value_info[:]  # sizes of every tensor in between, with the converter's names for the batch
    model.doc_string = ""


def rename_tensors(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give tensors other names, wherever they occur."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
