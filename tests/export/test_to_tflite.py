from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from mobilenext.errors import DataError
from mobilenext.export import FORMATS
from mobilenext.export.folding import fold_batch_norms
from mobilenext.machine.packages import installed
from mobilenext.models import build_network
from mobilenext.models.cell import CellNetwork
from mobilenext.models.cell_operators import OPERATORS, build_operator
from mobilenext.models.genotype import GENOTYPES, NONE
from mobilenext.models.network import Network
from mobilenext.models.sandglass_se import MobileNeXtSE, SEBlockPlan, plan_se_blocks
from mobilenext.runtime import RuntimeSpec, open_runtime
from networks import give_statistics

for package in FORMATS["tflite"].packages:
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra tflite)", allow_module_level=True)

BATCH = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)

DEPTH = 0.4  # of L and L-Ghost, whose own is 1.1: 13 blocks instead of 28

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("mobilenext_x0_35", {}),
    ("mobilenext_x0_35", {"identity_divisor": 2}),
    ("mobilenetv2_x0_35", {}),
    ("mobilenext_s", {}),
    ("mobilenext_l", {}),
    ("mobilenext_l_ghost", {}),
    ("mobilenext_se_hidden_x0_35", {}),  # arithmetic with a number, ReLU
    ("mobilenext_thin_shortcut_x0_35", {}),
    ("mobilenext_two_depthwise_x0_35", {}),  # a stride in a 1x1 convolution
]
# At an odd side, "SAME" pads otherwise than PyTorch does.
SHORT = {(1, 50), (2, 64), (6, 64), (7, 50)}  # blocks of those with sigmoid: below


@pytest.mark.parametrize(
    ("model", "options", "size"),
    [
        pytest.param(*network, size, marks=() if (place, size) in SHORT else pytest.mark.long)
        for place, network in enumerate(NETWORKS)
        for size in (64, 50)
    ],
)
def test_every_network(model: str, options: dict[str, Any], size: int, tmp_path: Path) -> None:
    paddle.seed(0)
    assert_equal(build_network(model, num_classes=20, **options), size, tmp_path)


@pytest.mark.parametrize(("ghost", "size"), [(False, 50), (True, 64)])
def test_blocks_of_every_kind_with_sigmoid(ghost: bool, size: int, tmp_path: Path) -> None:
    """L and L-Ghost with fewer blocks: all kernels, strides, groups and shortcuts that they have."""
    plans = plan_se_blocks(DEPTH, groups=2, ghost=ghost)
    whole = plan_se_blocks(1.1, groups=2, ghost=ghost)
    assert {kind_of(plan) for plan in plans} == {kind_of(plan) for plan in whole}
    paddle.seed(0)
    assert_equal(MobileNeXtSE(DEPTH, groups=2, ghost=ghost, num_classes=20), size, tmp_path)


def kind_of(plan: SEBlockPlan) -> tuple[object, ...]:
    return plan.kernel_size, plan.stride, plan.groups, plan.first_depthwise, plan.last_depthwise, plan.shortcut


def assert_equal(network: Network, size: int, folder: Path) -> None:
    """The file gives the outputs that Paddle gives, whatever the batch; so does MNN's, from the same ONNX file."""
    from mobilenext.export.to_onnx import write_onnx
    from mobilenext.export.writing import convert_onnx

    give_statistics(network)
    network.eval()
    batch = BATCH[:, :, :size, :size]
    with paddle.no_grad():
        outputs = network(paddle.to_tensor(batch))
    expected = [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
    fold_batch_norms(network)
    write_onnx(network, folder / "model.onnx", size)
    for format in ["tflite", *(["mnn"] if installed("MNN") else [])]:
        file = FORMATS[format].file
        convert_onnx(format, folder / "model.onnx", folder / file, size, network.outputs)
        runtime = open_runtime(RuntimeSpec(format, "", "cpu", 1, folder, file, outputs=network.outputs))
        for count in (1, 3, 1):
            parts = [runtime.predict(batch[i : i + count]) for i in range(0, 3, count)]
            for name, values, *arrays in zip(network.outputs, expected, *parts, strict=True):
                error = np.abs(np.concatenate(arrays) - values).max()
                assert error <= 2e-4 * values.std(), f"{name} by {format} in batches of {count}"


class EveryOperator(Network):
    """The operators on the edges of cells, each an output."""

    def __init__(self, size: int) -> None:
        super().__init__()
        kinds = [(name, stride) for name in OPERATORS if name != NONE for stride in (1, 2)]
        if size % 2:
            kinds.remove(("skip_connect", 2))
        self.outputs = tuple(f"{name}_{stride}" for name, stride in kinds)
        self.input_size = size
        # Mostly below zero, so that a padding with zeros is seen in the largest and in the mean.
        bias = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(-1.0))
        self.first = paddle.nn.Conv2D(3, 4, 3, padding=1, bias_attr=bias)
        self.operators = paddle.nn.LayerList(build_operator(name, 4, stride, affine=True) for name, stride in kinds)

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        x = self.first(x)
        return tuple(operator(x) for operator in self.operators)


@pytest.mark.parametrize("size", [16, 15])  # at stride 2 the padding is none of TFLite's, and is "SAME"
def test_every_operator_of_cells(size: int, tmp_path: Path) -> None:
    paddle.seed(0)
    assert_equal(EveryOperator(size), size, tmp_path)


@pytest.mark.parametrize(("form", "size"), [("cifar", 16), ("imagenet", 64)])
def test_networks_of_cells(form: str, size: int, tmp_path: Path) -> None:
    paddle.seed(0)
    assert_equal(CellNetwork(GENOTYPES["darts_v2"], form, channels=4, cells=3, num_classes=20), size, tmp_path)


def test_names_and_shapes(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from mobilenext.export.writing import write_format

    network = build_network("mobilenext_x0_35", num_classes=7)
    network.eval()
    fold_batch_norms(network)
    file = write_format(network, "tflite", tmp_path, 32)
    interpreter = Interpreter(str(tmp_path / file))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (taken["name"], taken["shape_signature"].tolist()) == ("image", [-1, 32, 32, 3])
    assert (given["name"], given["shape_signature"].tolist()) == ("logits", [-1, 7])
    signature = interpreter.get_signature_list()["serving_default"]
    assert (signature["inputs"], signature["outputs"]) == (["image"], ["logits"])


def graph(nodes: list[Any], constants: dict[str, np.ndarray], path: Path) -> Path:
    from onnx import TensorProto, checker, helper, numpy_helper, save

    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])
    checker.check_model(model)
    save(model, str(path))
    return path


def test_operators_that_are_not_known(tmp_path: Path) -> None:
    from onnx.helper import make_node

    from mobilenext.export.to_tflite import write_tflite

    mean = make_node("ReduceMean", ["x"], ["logits"], "mean", axes=[2, 3], keepdims=0)
    cases = {
        r"node odd \(Elu\) .* unknown operator": (make_node("Elu", ["image"], ["x"], "odd"), {}),
        r"node odd \(Clip\) .* clip to \[0.0, 3.0\]": (
            make_node("Clip", ["image", "low", "high"], ["x"], "odd"),
            {"low": np.float32(0), "high": np.float32(3)},
        ),
        r"node odd \(Conv\) .* automatic padding": (
            make_node("Conv", ["image", "w"], ["x"], "odd", auto_pad="SAME_UPPER"),
            {"w": np.zeros((3, 3, 3, 3), np.float32)},
        ),
        r"node odd \(MaxPool\) .* incomplete windows": (
            make_node("MaxPool", ["image"], ["x"], "odd", kernel_shape=[3, 3], ceil_mode=1),
            {},
        ),
        r"node odd \(Slice\) .* slice of the axes \[2\] in steps of \[2\]": (
            make_node("Slice", ["image", "low", "high", "axis", "step"], ["x"], "odd"),
            {name: np.array([value]) for name, value in {"low": 0, "high": 8, "axis": 2, "step": 2}.items()},
        ),
        r"node odd \(Concat\) .* another axis": (make_node("Concat", ["image", "image"], ["x"], "odd", axis=2), {}),
    }
    for message, (node, constants) in cases.items():
        source = graph(
            [node, mean], {name: np.asarray(value) for name, value in constants.items()}, tmp_path / "a.onnx"
        )
        with pytest.raises(DataError, match=message):
            write_tflite(source, tmp_path / "a.tflite")
    assert not (tmp_path / "a.tflite").exists()


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3" * 10)
    with pytest.raises(DataError, match="LiteRT cannot open it"):
        open_runtime(RuntimeSpec("tflite", "", "cpu", 1, tmp_path, "model.tflite"))
