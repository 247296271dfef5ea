"""MNN's files. That every network computes the same in them is in test_to_tflite, which has the ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from mobilenext.errors import CheckFailed, DataError
from mobilenext.export import FORMATS
from mobilenext.machine.packages import installed
from mobilenext.runtime import RuntimeSpec, open_runtime
from mobilenext.runtime.trial import try_apart

for package in FORMATS["mnn"].packages:
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra mnn)", allow_module_level=True)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, ReLU6, and the mean of each of three channels."""
    weight = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"], kernel_shape=[3, 3]),
        helper.make_node("Clip", ["map", "low", "high"], ["clipped"]),
        helper.make_node("ReduceMean", ["clipped"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    constants = {"weight": weight, "low": np.float32(0), "high": np.float32(6)}
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", [image], [logits], tensors), opset_imports=[helper.make_opsetid("", 13)]
    )
    path = tmp_path_factory.mktemp("graph") / "network.onnx"
    save(model, str(path))
    return path


def spec_of(folder: Path) -> RuntimeSpec:
    return RuntimeSpec("mnn", "", "cpu", 1, folder, FORMATS["mnn"].file)


@pytest.fixture
def written(graph: Path, tmp_path: Path) -> Path:
    from mobilenext.export.to_mnn import write_mnn

    path = tmp_path / FORMATS["mnn"].file
    write_mnn(graph, path)
    return path


def test_names_and_values(written: Path, graph: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The names are those of the ONNX file, and nothing is printed."""
    import MNN
    import onnxruntime

    images = np.random.default_rng(1).standard_normal((5, 3, 8, 8), dtype=np.float32)
    (expected,) = onnxruntime.InferenceSession(str(graph)).run(None, {"image": images})
    capfd.readouterr()
    (logits,) = open_runtime(spec_of(written.parent)).predict(images)
    assert capfd.readouterr() == ("", "")
    assert np.abs(logits - expected).max() <= 1e-5
    network = MNN.Interpreter(str(written))
    session = network.createSession()
    assert set(network.getSessionInputAll(session)) == {"image"}
    assert set(network.getSessionOutputAll(session)) == {"logits"}


def test_the_same_network_gives_the_same_file(written: Path, graph: Path) -> None:
    """The converter gives each file a random identity."""
    from mobilenext.export.to_mnn import write_mnn

    first = written.read_bytes()
    write_mnn(graph, written)
    assert written.read_bytes() == first


def test_a_converter_that_fails(tmp_path: Path) -> None:
    from mobilenext.export.to_mnn import write_mnn

    (tmp_path / "network.onnx").write_text("none")
    with pytest.raises(CheckFailed, match=r"MNN's converter fails: .*not onnx model"):
        write_mnn(tmp_path / "network.onnx", tmp_path / "model.mnn")


def test_a_file_that_was_cut_short(written: Path) -> None:
    written.write_bytes(written.read_bytes()[:-8])
    with pytest.raises(
        DataError, match=r"model\.mnn: MNN .* cannot open it with the input image and the output logits"
    ):
        open_runtime(spec_of(written.parent))


def test_a_file_that_was_made_to_crash_it(written: Path) -> None:
    """It is run in another process first, which is the one that ends."""
    spec = spec_of(written.parent)
    numbers = np.frombuffer(bytearray(written.read_bytes().ljust(-(-written.stat().st_size // 4) * 4, b"\0")), "<i4")
    # The inputs and outputs of an operator are vectors of places in the table of tensors: here they point far outside.
    places = np.flatnonzero((numbers[:-1] == 1) & (numbers[1:] == 1)) + 1
    assert len(places)
    numbers[places] = 2**31 - 1
    written.write_bytes(numbers.tobytes())
    with pytest.raises(
        DataError, match=r"model\.mnn: mnn cannot run it: it ends with SIG[A-Z]+ \(in a process of its own"
    ):
        try_apart(spec, 8)
