from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from mobilenext.errors import CheckFailed, MissingDependency
from mobilenext.export import ONNX_PACKAGES, to_onnx
from mobilenext.export.folding import fold_batch_norms
from mobilenext.export.to_onnx import check_batch_norms, convert, used_epsilons, write_onnx
from mobilenext.machine.packages import installed
from mobilenext.models import build_network
from mobilenext.models.network import Network
from mobilenext.models.sandglass_se import MobileNeXtSE
from networks import give_statistics, logits

for package in (*ONNX_PACKAGES, "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra onnx)", allow_module_level=True)

BATCH = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)
FEWER_BLOCKS = "mobilenext_l_ghost of fewer blocks"


def network_for(model: str, **options: Any) -> Network:
    paddle.seed(0)
    if model == FEWER_BLOCKS:  # as in test_to_tflite.py
        network: Network = MobileNeXtSE(0.4, groups=2, ghost=True, num_classes=20)
    else:
        network = build_network(model, num_classes=20, **options)
    give_statistics(network)
    # A classifier without a bias would lose the addition at the end.
    bias = network.head_layers[-1]
    for name, tensor in network.state_dict().items():
        if name.startswith(bias) and name.endswith("bias"):
            tensor.set_value(paddle.linspace(-1, 1, 20))
    network.eval()
    return network


@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param("mobilenext_x0_35", {}, marks=pytest.mark.long),
        ("mobilenext_x0_35", {"identity_divisor": 3}),
        ("mobilenetv2_x0_35", {}),
        pytest.param("mobilenext_s", {}, marks=pytest.mark.long),
        pytest.param("mobilenext_l", {}, marks=pytest.mark.long),
        pytest.param("mobilenext_l_ghost", {}, marks=pytest.mark.long),
        (FEWER_BLOCKS, {}),
    ],
)
def test_written_graph(model: str, options: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import onnx
    import onnxruntime

    network = network_for(model, **options)
    expected = logits(network, BATCH)
    fold_batch_norms(network)
    file = tmp_path / "model.onnx"
    write_onnx(network, file, 64)
    assert capfd.readouterr().out == "", "the converter's talk is no result"

    graph = onnx.load(str(file))
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version >= 13
    (taken,), (given,) = graph.graph.input, graph.graph.output
    shape = [side.dim_param or side.dim_value for side in taken.type.tensor_type.shape.dim]
    assert (taken.name, shape) == ("image", ["batch", 3, 64, 64])
    shape = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert (given.name, shape) == ("logits", ["batch", 20])
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert not set(kinds) & {"Shape", "Reshape", "Identity", "BatchNormalization", "ScatterND", "Constant"}
    assert len({node.name for node in graph.graph.node}) == len(graph.graph.node), "a name for every node"

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for size in (1, 3):
        found = np.concatenate(
            [session.run(["logits"], {"image": BATCH[i : i + size]})[0] for i in range(0, len(BATCH), size)]
        )
        assert np.abs(found - expected).max() <= 2e-4 * expected.std()
    write_onnx(network, tmp_path / "as_converted.onnx", 64, simplified=False)
    as_converted = onnxruntime.InferenceSession(str(tmp_path / "as_converted.onnx"), providers=["CPUExecutionProvider"])
    assert np.array_equal(as_converted.run(["logits"], {"image": BATCH})[0], found), "it is simplified when opened"


def test_batch_norms_are_read_back() -> None:
    """An epsilon that the converter loses, or gets wrong, is caught (Paddle2ONNX issue 1646)."""
    network = network_for("mobilenext_s")  # its epsilons are not the default of ONNX
    epsilons = used_epsilons(network)
    model = convert(network, 32)
    check_batch_norms(model, epsilons)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 71
    (epsilon,) = (attribute for attribute in norms[5].attribute if attribute.name == "epsilon")
    assert epsilon.f == pytest.approx(1e-3)
    for value in (5.2e-39, 1e-5):
        epsilon.f = value
        with pytest.raises(CheckFailed, match="a fault of the converter"):
            check_batch_norms(model, epsilons)
    epsilon.f = 1e-3
    check_batch_norms(model, epsilons)
    norms[5].attribute.remove(epsilon)
    with pytest.raises(CheckFailed, match="71 batch norms with the epsilons"):
        check_batch_norms(model, epsilons)


def test_a_converter_that_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has said that it succeeded (Paddle issue 69128)."""
    import paddle2onnx

    def nothing(model: str, parameters: str, target: str, **options: Any) -> None:
        os.write(1, b"all is well\n")
        Path(target).write_bytes(b"")

    monkeypatch.setattr(paddle2onnx, "export", nothing)
    with pytest.raises(CheckFailed, match="wrote nothing; it said: all is well"):
        write_onnx(network_for("mobilenext_x0_35"), tmp_path / "model.onnx", 32)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda package: package != "paddle2onnx")
    message = r"ONNX export needs paddle2onnx, which is not installed: pip install 'mobilenext\[onnx\]'"
    with pytest.raises(MissingDependency, match=message):
        to_onnx.write_onnx(network_for("mobilenext_x0_35"), tmp_path / "model.onnx", 32)
