"""Weights that lie in files beside an ONNX file."""

from __future__ import annotations

import hashlib
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tests.onnx_models import WEIGHT, classifier

from mobilenext.errors import DataError
from mobilenext.machine.packages import installed
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import Prepared, prepare

for package in ("onnx", "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra onnx)", allow_module_level=True)

onnx = import_module("onnx")
external_files = import_module("mobilenext.runtime.onnx_files").external_files


def moved(path: Path, locations: list[str]) -> Path:
    """The classifier with its weight in two halves, each in a file of its own."""
    model = onnx.load(str(classifier(path)))
    graph = model.graph
    del graph.initializer[:]
    for name, location, part in zip(("left", "right"), locations, (WEIGHT[:, :2], WEIGHT[:, 2:]), strict=True):
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(part), name)
        onnx.external_data_helper.set_external_data(tensor, location)
        file = path.parent / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        graph.initializer.append(tensor)
    graph.node.insert(0, onnx.helper.make_node("Concat", ["left", "right"], ["weight"], axis=1))
    path.write_bytes(model.SerializeToString())
    return path


def prepared(path: Path) -> Prepared:
    fields = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return prepare(find_subject(onnx=path, preprocessing=fields), path.parent, Choice("onnxruntime"))


def test_every_file_decides_the_checksum(tmp_path: Path) -> None:
    path = moved(tmp_path / "a.onnx", ["weights/left.bin", "a.onnx.data"])
    assert external_files(path) == ["a.onnx.data", "weights/left.bin"]
    before = prepared(path)
    sums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in external_files(path)}
    assert before.files == sums
    printed = subprocess.run(["sha256sum", "a.onnx", *sums], cwd=tmp_path, capture_output=True, check=True).stdout
    assert before.record.sha256 == hashlib.sha256(printed).hexdigest(), "as docs/deployment.md says"
    for name in sums:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(np.frombuffer(content, np.float32)[::-1].tobytes())
        assert prepared(path).record.sha256 != before.record.sha256, name
        (tmp_path / name).write_bytes(content)
    single = prepared(classifier(tmp_path / "single.onnx"))
    assert single.files == {}
    assert single.record.sha256 == hashlib.sha256((tmp_path / "single.onnx").read_bytes()).hexdigest()


def test_tensors_in_nodes_and_subgraphs(tmp_path: Path) -> None:
    make = onnx.helper
    tensors = []
    for index in range(3):
        tensor = onnx.numpy_helper.from_array(np.ones(4, np.float32), f"t{index}")
        onnx.external_data_helper.set_external_data(tensor, f"{index}.bin")
        tensor.ClearField("raw_data")
        (tmp_path / f"{index}.bin").write_bytes(bytes(16))
        tensors.append(tensor)
    inner = make.make_graph([make.make_node("Constant", [], ["c"], value=tensors[0])], "inner", [], [], [tensors[1]])
    node = make.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    function = make.make_function("d", "f", [], ["c"], [make.make_node("Constant", [], ["c"], value=tensors[2])], [])
    model = make.make_model(make.make_graph([node], "g", [], []), functions=[function])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert external_files(tmp_path / "a.onnx") == ["0.bin", "1.bin", "2.bin"]


def test_files_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for location in ("../out.bin", str(tmp_path / "out.bin"), ""):
        path = moved(tmp_path / "in" / "a.onnx", ["left.bin", "right.bin"])
        model = onnx.load(str(path), load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        path.write_bytes(model.SerializeToString())
        (tmp_path / "out.bin").write_bytes(bytes(24))
        with pytest.raises(
            DataError, match=r"keeps weights in '.*', outside its folder; expected all its files in one"
        ):
            external_files(path)
    moved(tmp_path / "in" / "a.onnx", ["left.bin", "right.bin"])
    (tmp_path / "in" / "left.bin").unlink()
    with pytest.raises(DataError, match=r"keeps weights in .*left.bin, which is not there: put that file beside it"):
        prepared(path)
    (tmp_path / "in" / "left.bin").symlink_to(tmp_path / "out.bin")
    with pytest.raises(DataError, match="outside its folder"):
        prepared(path)


def test_a_download_cache_of_links(tmp_path: Path) -> None:
    """As huggingface_hub keeps files: names that link to a folder of contents."""
    for folder in ("blobs", "snapshot"):
        (tmp_path / folder).mkdir()
    path = moved(tmp_path / "blobs" / "a.onnx", ["left.bin", "right.bin"])
    for name in ("a.onnx", "left.bin", "right.bin"):
        (tmp_path / "snapshot" / name).symlink_to(Path("..") / "blobs" / name)
    assert prepared(tmp_path / "snapshot" / "a.onnx").record.sha256 == prepared(path).record.sha256
