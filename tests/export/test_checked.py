"""Networks of several outputs, and what may follow a network in its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest
from tests.export.test_export import SMALL, skip_if_not_writable

from mobilenext.errors import CheckFailed
from mobilenext.export import checked
from mobilenext.export.checked import write_checked
from mobilenext.export.formats import FORMATS
from mobilenext.export.post_processing import PostProcessing
from mobilenext.export.sidecar import SIDECAR, Output, read_sidecar
from mobilenext.export.tables import parity_lines
from mobilenext.models import Architecture
from mobilenext.models.genotype import Genotype
from mobilenext.models.network import Network
from mobilenext.runtime import open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights
from mobilenext.weights.searched import fresh_weights

if TYPE_CHECKING:
    from tests.conftest import World

    from mobilenext.weights.record import Weights, WeightsRecord

pytestmark = pytest.mark.usefixtures("written_once")


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


@pytest.mark.parametrize("format", ["onnx", "paddle-legacy", "openvino", "ncnn", "tflite", "mnn"])
def test_several_outputs(
    format: str, world: World, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is compared, described with its shape, and returned in order, whatever the format."""
    skip_if_not_writable(format)
    weights = replace(read_weights(world.weights, preprocessing=SMALL), task="both")
    monkeypatch.setattr(checked, "network_of", WithMap)
    images = [str(few_images)]
    told: list[tuple[int, int]] = []
    parity = write_checked(
        weights, format, tmp_path, images, lambda expected, outputs: ({"equal": 1}, None),
        progress=lambda *numbers: told.append(numbers),
    )  # fmt: skip
    passes = 2 + len(parity["runtimes"])  # Paddle, with and without its batch norms, and each runtime
    total = passes * (parity["images"] + parity["images"] // 3 * 3)  # each image alone, and in threes
    assert (told[0], told[-1]) == ((1, total), (total, total))
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


NORMAL = ("sep_conv_3x3", "dil_conv_3x3", "avg_pool_3x3", "max_pool_3x3")
REDUCE = ("skip_connect", "dil_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
MIXED = Genotype(*([(name, source) for name in names for source in (0, 1)] for names in (NORMAL, REDUCE)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_of_cells(format: str, few_images: Path, tmp_path: Path) -> None:
    """Every installed runtime computes what Paddle does, or the export would have failed."""
    skip_if_not_writable(format)
    architecture = Architecture(space="cell", genotype=MIXED, form="cifar", channels=2, cells=3)
    paddle.seed(0)
    weights = fresh_weights(architecture, tmp_path / "weights.safetensors", num_classes=5)
    weights = replace(weights, preprocessing=weights.preprocessing.replace(image_size=8))
    parity = write_checked(weights, format, tmp_path, [str(few_images)], lambda expected, outputs: ({}, None))
    assert parity["runtimes"]
    assert read_sidecar(tmp_path).record.architecture == architecture.to_dict()


def append_softmax(graph: Any, record: WeightsRecord) -> Any:
    """Turn logits into probabilities."""
    import onnx

    assert record.num_classes == 8
    graph.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    shape = ["batch", record.num_classes]
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape))
    return graph


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def agreement_of_softmax(calls: Any, record: WeightsRecord) -> tuple[dict[str, Any], str | None]:
    assert {len(probabilities) for _, (probabilities,) in calls} == {1, 3}, "one image, and three"
    worst = max(np.abs(softmax(logits) - probabilities).max() for (logits,), (probabilities,) in calls)
    return {"calls": [len(calls), len(calls)]}, None if worst < 1e-3 else "probabilities differ"


SOFTMAX = PostProcessing(
    name="softmax", append=append_softmax, agreement=agreement_of_softmax,
    instructions=lambda record: {"steps": ["softmax"], "constants": "one.txt"}, files=lambda record: {"one.txt": b"1"},
    answers=lambda outputs, record: list(softmax(*outputs)), amounts=lambda outputs, record: {},
)  # fmt: skip


@pytest.mark.parametrize("format", ["onnx", "openvino", "paddle-legacy"])
def test_post_processing(format: str, world: World, few_images: Path, tmp_path: Path) -> None:
    """A second model has it where the format can hold it, compared as well; the sidecar says how it is computed."""
    skip_if_not_writable(format)
    weights = read_weights(world.weights, preprocessing=SMALL)
    images = [str(few_images)]
    write_checked(weights, format, tmp_path, images, lambda expected, outputs: ({}, None), SOFTMAX)
    sidecar = read_sidecar(tmp_path)
    assert sidecar.outputs == (Output("logits", (8,)),), "the network alone stays as it is"
    assert sidecar.files.keys() >= {sidecar.file, "one.txt"}
    steps = {"steps": ["softmax"], "constants": "one.txt"}
    if format == "paddle-legacy":
        assert sidecar.post_processing == steps
        assert "post_processing" not in sidecar.parity
        return
    file = {"onnx": "model_softmax.onnx", "openvino": "model_softmax.xml"}[format]
    assert sidecar.post_processing == steps | {"file": file, "input": "image", "outputs": ["probabilities"]}
    assert file in sidecar.files
    counted = sidecar.parity["post_processing"]
    assert all(fields["calls"][0] > 4 for fields in counted.values())
    assert "with post-processing" in parity_lines(sidecar.parity)[-1]
    prepared = prepare(find_subject(exported=tmp_path), tmp_path / "scratch", Choice())
    spec = replace(prepared.spec, file=file, outputs=("probabilities",))
    (outputs,) = open_runtime(spec).predict(world.inputs[:3])
    assert np.abs(outputs - softmax(world.logits[:3])).max() <= 1e-3


def test_other_answers_stop_the_export(world: World, few_images: Path, tmp_path: Path) -> None:
    """A second model that gives something else is never kept."""
    skip_if_not_writable("onnx")
    weights = read_weights(world.weights, preprocessing=SMALL)
    wrong = replace(SOFTMAX, agreement=lambda calls, record: ({}, "3 probabilities differ"))
    with pytest.raises(CheckFailed, match=r"model_softmax.onnx does not give .*, by .*: 3 probabilities differ"):
        write_checked(weights, "onnx", tmp_path, [str(few_images)], lambda expected, outputs: ({}, None), wrong)
    assert not (tmp_path / SIDECAR).exists()
