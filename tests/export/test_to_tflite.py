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
from mobilenext.runtime import RuntimeSpec, open_runtime
from networks import give_statistics, logits

for package in FORMATS["tflite"].packages:
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra tflite)", allow_module_level=True)

BATCH = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("mobilenext_x0_35", {}),
    ("mobilenext_x0_35", {"identity_divisor": 2}),
    ("mobilenetv2_x0_35", {}),
    ("mobilenext_s", {}),
    ("mobilenext_l", {}),  # grouped 1x1 convolutions
    ("mobilenext_l_ghost", {}),
    ("mobilenext_se_hidden_x0_35", {}),  # arithmetic with a number, ReLU
    ("mobilenext_thin_shortcut_x0_35", {}),
    ("mobilenext_two_depthwise_x0_35", {}),  # a stride in a 1x1 convolution
]
# At an odd side, "SAME" pads otherwise than PyTorch does.
SHORT = {(1, 50), (2, 64), (4, 50), (5, 64), (6, 64), (7, 50)}


@pytest.mark.parametrize(
    ("model", "options", "size"),
    [
        pytest.param(*network, size, marks=() if (place, size) in SHORT else pytest.mark.long)
        for place, network in enumerate(NETWORKS)
        for size in (64, 50)
    ],
)
def test_every_network(model: str, options: dict[str, Any], size: int, tmp_path: Path) -> None:
    from mobilenext.export.to_onnx import write_onnx
    from mobilenext.export.to_tflite import write_tflite

    paddle.seed(0)
    network = build_network(model, num_classes=20, **options)
    give_statistics(network)
    network.eval()
    batch = BATCH[:, :, :size, :size]
    expected = logits(network, batch)
    fold_batch_norms(network)
    write_onnx(network, tmp_path / "model.onnx", size)
    write_tflite(tmp_path / "model.onnx", tmp_path / "model.tflite")
    runtime = open_runtime(RuntimeSpec("tflite", "", "cpu", 1, tmp_path, "model.tflite"))
    for count in (1, 3, 1):
        found = np.concatenate([runtime.predict(batch[i : i + count])[0] for i in range(0, 3, count)])
        assert np.abs(found - expected).max() <= 2e-4 * expected.std(), f"batch {count}"


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
        r"node odd \(Conv\) .* dilation": (
            make_node("Conv", ["image", "w"], ["x"], "odd", dilations=[2, 2], pads=[2, 2, 2, 2]),
            {"w": np.zeros((3, 3, 3, 3), np.float32)},
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
