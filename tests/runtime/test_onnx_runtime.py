"""ONNX files of other makers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.errors import DataError
from mobilenext.evaluation.subject import Choice, find_subject, prepare
from mobilenext.runtime import installed, open_runtime

for package in ("onnx", "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra onnx)", allow_module_level=True)

onnx = import_module("onnx")
describe = import_module("mobilenext.runtime.onnx_runtime").describe

IMAGE = ("image", ["n", 3, 8, 8])


def save(path: Path, inputs: list[Any], output: list[Any], *nodes: Any) -> Path:
    """By default the mean of each channel."""
    make = onnx.helper
    nodes = nodes or (make.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0),)
    values = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs]
    result = make.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, output)
    model = make.make_model(make.make_graph(nodes, "g", values, [result]), opset_imports=[make.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def test_a_classifier(tmp_path: Path) -> None:
    path = save(tmp_path / "mean.onnx", [IMAGE], ["n", 3])
    found = describe(path)
    assert (found.input, found.output, found.image_size) == ("image", "logits", 8)
    prepared = prepare(find_subject(onnx=path, preprocessing={"mean": (0.5,) * 3}), tmp_path, Choice("onnxruntime"))
    assert (prepared.record.model, prepared.record.num_classes) == ("mean", 3)
    assert prepared.record.preprocessing.image_size == 8, "the file says so"
    assert prepared.record.preprocessing.mean == (0.5, 0.5, 0.5)
    assert prepared.notes[0].startswith("std assumed"), "what nobody has said is named"
    batch = np.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(open_runtime(prepared.spec).predict(batch), batch.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        ([IMAGE, ("other", ["n", 3])], ["n", 3], r"has the inputs image .*, other .*; expected one input"),
        ([("image", [4, 3, 8, 8])], [4, 3], "is fixed to 4; expected a free first dimension"),
        ([("image", [1, 3, 8, 8])], [1, 3], "is fixed to 1; expected a free first dimension"),
        ([("image", ["n", 1, 8, 8])], ["n", 1], r"expected float \[N, 3, S, S\], a square RGB image"),
        ([("image", ["n", 3, 8, 9])], ["n", 3], "a square RGB image"),
    ],
)
def test_what_is_no_classifier(inputs: list[Any], output: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        describe(save(tmp_path / "a.onnx", inputs, output))


def test_other_outputs_and_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [IMAGE], ["n", 3, 8, 8], onnx.helper.make_node("Identity", ["image"], ["logits"]))
    with pytest.raises(DataError, match=r"expected float \[N, classes\]"):
        describe(path)
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot open it: .*; the file may be cut short"):
        describe(tmp_path / "cut.onnx")


def test_an_image_size_that_only_running_reveals(tmp_path: Path) -> None:
    """The sides are free in the file, but a product inside fits one size only."""
    make = onnx.helper
    weight = make.make_tensor("w", onnx.TensorProto.FLOAT, [12, 2], [0.0] * 24)
    nodes = (
        make.make_node("Constant", [], ["w"], value=weight),
        make.make_node("Flatten", ["image"], ["flat"]),
        make.make_node("MatMul", ["flat", "w"], ["logits"]),
    )
    path = save(tmp_path / "a.onnx", [("image", ["n", 3, "h", "h"])], ["n", 2], *nodes)
    with pytest.raises(DataError, match=r"cannot run an image of 8 pixels: .*; another --image-size may be"):
        prepare(find_subject(onnx=path, preprocessing={"image_size": 8}), tmp_path, Choice("onnxruntime"))
    assert prepare(find_subject(onnx=path, preprocessing={"image_size": 2}), tmp_path, Choice("onnxruntime"))
