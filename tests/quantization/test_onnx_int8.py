from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.data import open_dataset, read_image
from mobilenext.errors import DataError, UsageError
from mobilenext.export import ONNX_PACKAGES
from mobilenext.machine.packages import installed
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import BUNDLED
from mobilenext.weights.read import read_weights

for package in (*ONNX_PACKAGES, "onnxruntime", "sklearn"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extras quantize and quickstart)", allow_module_level=True)

onnx = import_module("onnx")
numpy_helper = import_module("onnx.numpy_helper")
int8 = import_module("mobilenext.quantization.onnx_int8")


class Digits:
    """The bundled network in ONNX, images it was trained on, and the 599 others with their labels."""

    def __init__(self, folder: Path) -> None:
        from mobilenext.data.digits import write_digits
        from mobilenext.export.folding import fold_batch_norms
        from mobilenext.export.to_onnx import write_onnx

        self.weights = read_weights(BUNDLED / "mobilenext_x0_35.digits.safetensors")
        network = network_of(self.weights)
        fold_batch_norms(network)
        write_onnx(network, folder / "float.onnx", 64)
        self.file = folder / "ready.onnx"
        int8.make_ready(folder / "float.onnx", self.file)
        self.data = {part: write_digits(folder / part, part) for part in ("train", "val")}
        self.calibration, _ = self.images("train", 96)
        self.images_val, self.labels = self.images("val", 599)
        self.ranges = int8.calibrate(self.file, np.array_split(self.calibration, 12), folder)

    def images(self, part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        records = open_dataset(self.data[part], list_file=self.data[part] / f"{part}_list.txt").records[:count]
        preprocessing = self.weights.preprocessing
        images = np.stack([preprocessing(read_image(record.path)) for record in records])
        return images, np.array([record.label for record in records])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, written_once: None) -> Digits:
    return Digits(tmp_path_factory.mktemp("digits"))


def run(path: Path, images: np.ndarray, optimised: Path | None = None) -> np.ndarray:
    import onnxruntime

    from mobilenext.runtime.onnx_runtime import EXACT_SUMS

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_SUMS)
    if optimised:
        options.optimized_model_filepath = str(optimised)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(["logits"], {"image": images[i : i + 64]})[0] for i in range(0, len(images), 64)]
    )


def test_accuracy_and_kernels(digits: Digits, tmp_path: Path) -> None:
    int8.quantize(digits.file, tmp_path / "int8.onnx", digits.ranges)
    before, after = run(digits.file, digits.images_val), run(tmp_path / "int8.onnx", digits.images_val, tmp_path / "o")
    correct = [int((each.argmax(1) == digits.labels).sum()) for each in (before, after)]
    assert correct[0] == 591
    assert abs(correct[1] - correct[0]) <= 5, "within 1 point"
    assert not np.array_equal(before, after)

    kinds = Counter(node.op_type for node in onnx.load(str(tmp_path / "o")).graph.node)
    assert kinds["QLinearConv"] == 74
    assert kinds["Conv"] == kinds["FusedConv"] == kinds["Add"] == 0, "nothing that computes is left in float"
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * digits.file.stat().st_size


def test_weights_have_a_scale_for_each_channel(digits: Digits, tmp_path: Path) -> None:
    int8.quantize(digits.file, tmp_path / "int8.onnx", digits.ranges)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    onnx.checker.check_model(model)
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 74
    for node in convolutions:
        weight = makers[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        values, scales, zeros = (constants[name] for name in weight.input)
        assert values.dtype == np.int8
        assert scales.shape == (values.shape[0],)
        assert not zeros.any(), "symmetric"
        activation = makers[node.input[0]]
        assert constants[activation.input[2]].dtype == np.uint8
        assert constants[activation.input[1]].size == 1, "one scale for each tensor"
    assert next(side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim) == "batch"


def test_layers_that_stay_float(digits: Digits, tmp_path: Path) -> None:
    names = int8.layers(digits.file)
    assert len(names) == len(set(names)) == 74 + 12 + 2  # convolutions, shortcuts, the linear layer and its bias
    kept = [names[0], names[7]]
    int8.quantize(digits.file, tmp_path / "int8.onnx", digits.ranges, kept)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for name in names:
        if nodes[name].op_type == "Conv":
            assert (nodes[name].input[1] in constants) == (name in kept), name
    with pytest.raises(UsageError, match=r"keep_float names 'conv_1000', which is no layer .*; did you mean 'conv_10"):
        int8.quantize(digits.file, tmp_path / "x.onnx", digits.ranges, ["conv_1000"])


@pytest.mark.long
def test_the_layer_that_loses_most(digits: Digits, tmp_path: Path) -> None:
    """One weight a thousand times the others of its channel leaves those no precision."""
    model = onnx.load(str(digits.file))
    victim = next(node for node in model.graph.node if node.op_type == "Conv" and node.name > "conv_5")
    for each in model.graph.initializer:
        if each.name == victim.input[1]:
            values = numpy_helper.to_array(each).copy()
            flat = values.reshape(len(values), -1)
            flat[np.arange(len(flat)), np.abs(flat).argmin(1)] = 60 * np.abs(flat).max(1)
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    onnx.save(model, str(tmp_path / "bad.onnx"))
    ranges = int8.calibrate(tmp_path / "bad.onnx", [digits.calibration[:16]], tmp_path)
    losses = int8.layer_losses(tmp_path / "bad.onnx", ranges, digits.calibration[:16])
    assert [loss.layer for loss in losses] != int8.layers(tmp_path / "bad.onnx")
    assert len(losses) == 88
    worst = [loss.layer for loss in losses[:3]]
    assert victim.name in worst
    assert losses == sorted(losses, key=lambda loss: loss.signal_to_noise_db)


def test_files_of_other_makers_are_made_ready(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def save(opset: int, names: list[str]) -> Path:
        nodes = [
            helper.make_node("Relu", ["image"], ["a"], names[0]),
            helper.make_node("Relu", ["a"], ["logits"], names[1]),
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("image", "logits")]
        model = helper.make_model(
            helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", opset)]
        )
        path = tmp_path / f"{opset}.onnx"
        onnx.save(model, str(path))
        return path

    int8.make_ready(save(11, ["", "same"]), tmp_path / "ready.onnx")
    model = onnx.load(str(tmp_path / "ready.onnx"))
    assert model.opset_import[0].version == 13
    int8.make_ready(save(17, ["same", "same"]), tmp_path / "ready.onnx")
    model = onnx.load(str(tmp_path / "ready.onnx"))
    assert model.opset_import[0].version == 17
    assert len({node.name for node in model.graph.node}) == 2


def test_an_opset_that_cannot_be_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Digits) -> None:
    model = onnx.load(str(digits.file))
    model.opset_import[0].version = 9
    onnx.save(model, str(tmp_path / "old.onnx"))

    def refuse(*arguments: Any) -> None:
        raise RuntimeError("no adapter")

    import_module("onnx.version_converter")
    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    with pytest.raises(DataError, match="is of ONNX opset 9 and cannot be converted to 13: no adapter; export"):
        int8.make_ready(tmp_path / "old.onnx", tmp_path / "ready.onnx")
