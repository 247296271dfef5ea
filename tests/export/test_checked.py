"""Networks of several outputs, and what may follow a network in its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest
from tests.export.test_export import SMALL, skip_if_not_writable

from mobilenext.export import checked
from mobilenext.export.checked import write_checked
from mobilenext.export.sidecar import SIDECAR, Output, read_sidecar
from mobilenext.json_files import read_json
from mobilenext.models.network import Network
from mobilenext.runtime import open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights

if TYPE_CHECKING:
    from tests.conftest import World

    from mobilenext.weights.record import Weights, WeightsRecord


class WithMap(Network):
    """A classifier that gives the map behind its logits as well."""

    outputs = ("logits", "map")

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.network = network_of(weights)
        self.eval()

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        last = self.network.forward_features(x)
        return self.network.head(last), last


@pytest.mark.parametrize("format", ["onnx", "paddle-legacy", "openvino", "ncnn", "tflite"])
def test_several_outputs(format: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared, described with its shape, and returned in order, whatever the format."""
    skip_if_not_writable(format)
    weights = replace(read_weights(world.weights, preprocessing=SMALL), task="both")
    monkeypatch.setattr(checked, "network_of", WithMap)
    images = [str(world.data / "imgs")]
    parity = write_checked(weights, format, tmp_path, images, lambda expected, outputs: ({"equal": 1}, None))
    assert parity["folding"].keys() == {"largest_difference", "largest_difference_of_std", "equal"}
    assert parity.keys() >= {"logits_std", "map_std"}

    sidecar = read_sidecar(tmp_path)
    assert sidecar.record.task == "both"
    assert sidecar.outputs == (Output("logits", (8,)), Output("map", (1280, 1, 1)))
    assert len(sidecar.self_check) == 8 + 1280
    prepared = prepare(find_subject(exported=tmp_path), tmp_path / "scratch", Choice())
    assert prepared.spec.outputs == ("logits", "map")
    logits, last = open_runtime(prepared.spec).predict(world.inputs[:3])
    assert np.abs(logits - world.logits[:3]).max() <= 1e-3 * world.logits.std()
    assert last.shape == (3, 1280, 1, 1)


def append_softmax(graph: Any, record: WeightsRecord) -> Any:
    """Turn logits into probabilities."""
    import onnx

    assert record.num_classes == 8
    graph.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    shape = ["batch", record.num_classes]
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape))
    return graph


@pytest.mark.parametrize("format", ["onnx", "openvino", "paddle-legacy"])
def test_post_processing(format: str, world: World, tmp_path: Path) -> None:
    """It follows the network where the format can hold it; the network alone is compared with Paddle."""
    skip_if_not_writable(format)
    weights = read_weights(world.weights, preprocessing=SMALL)
    images = [str(world.data / "imgs")]
    write_checked(weights, format, tmp_path, images, lambda expected, outputs: ({}, None), append_softmax)
    values = read_json(tmp_path / SIDECAR)
    name = "logits" if format == "paddle-legacy" else "probabilities"
    assert (values["version"], values["output"]) == ("mobilenext export 2", name)
    assert values["outputs"] == [{"name": name, "shape": [8]}]
    assert "logits_std" in values["parity"]
    prepared = prepare(find_subject(exported=tmp_path), tmp_path / "scratch", Choice())
    (outputs,) = open_runtime(prepared.spec).predict(world.inputs[:3])
    powers = np.exp(world.logits[:3] - world.logits[:3].max(axis=1, keepdims=True))
    expected = world.logits[:3] if format == "paddle-legacy" else powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(outputs - expected).max() <= 1e-3 * expected.std()
    assert np.allclose(sum(values["self_check"]), 1, atol=1e-5) == (format != "paddle-legacy")
