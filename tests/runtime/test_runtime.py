from __future__ import annotations

from pathlib import Path

import pytest

from mobilenext import runtime
from mobilenext.errors import MissingDependency, UsageError
from mobilenext.machine import packages
from mobilenext.runtime import (
    ENGINES,
    RUNTIMES,
    Candidate,
    check_precision,
    choice,
    likely_runtime,
    resolve_device,
    resolve_runtime,
)


def test_devices() -> None:
    import paddle

    assert resolve_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="'tpu'; expected auto, cpu or gpu"):
        resolve_device("tpu")
    if paddle.device.is_compiled_with_cuda():
        pytest.skip("this build of Paddle has CUDA")
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="is a CPU build; use --device cpu"):
        resolve_device("gpu")


def paddle_inference(*engines: str, format: str = "paddle-legacy") -> list[Candidate]:
    return [Candidate("paddle-inference", engine, format) for engine in engines]


@pytest.fixture
def only_paddle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda package: package == "paddle")
    monkeypatch.setattr(packages, "installed", lambda package: package == "paddle")


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda package: True)
    monkeypatch.setattr(packages, "installed", lambda package: True)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("auto", "auto", "cpu"), paddle_inference(*ENGINES)),
        (("auto", "auto", "gpu"), [Candidate("paddle", "eager", "weights")]),
        (("auto", "native", "cpu"), paddle_inference("native")),
        (("paddle", "auto", "cpu"), [Candidate("paddle", "eager", "weights")]),
        (("paddle-inference", "auto", "gpu"), paddle_inference("gpu")),
    ],
)
@pytest.mark.usefixtures("only_paddle")
def test_choices_with_paddle_only(asked: tuple[str, str, str], found: list[Candidate]) -> None:
    assert resolve_runtime(*asked) == found


@pytest.mark.usefixtures("everything")
def test_choices_on_a_gpu() -> None:
    for engine, found in (("auto", "gpu"), ("tensorrt", "tensorrt")):
        (choice,) = resolve_runtime("paddle-inference", engine, "gpu", precision="fp16")
        assert choice == Candidate("paddle-inference", found, "paddle-legacy")
    with pytest.raises(UsageError, match="does not run this network in fp16 on cpu"):
        resolve_runtime("paddle-inference", "auto", "cpu", precision="fp16")


@pytest.mark.usefixtures("everything")
def test_choices_with_everything() -> None:
    first, second, *others = resolve_runtime("auto", "auto", "cpu")
    assert [first, second] == [Candidate("onnxruntime", "", "onnx"), Candidate("openvino", "", "openvino")]
    assert others == paddle_inference(*ENGINES)
    assert [each.runtime for each in resolve_runtime("auto", "auto", "cpu", precision="bf16")] == ["openvino"]
    assert resolve_runtime("auto", "auto", "cpu", formats=["ncnn"]) == [Candidate("ncnn", "", "ncnn")]
    onnx = resolve_runtime("auto", "auto", "cpu", formats=["onnx"], precision="int8")
    assert [each.runtime for each in onnx] == ["onnxruntime", "openvino"]
    assert resolve_runtime("auto", "auto", "cpu", formats=["paddle"]) == paddle_inference(*ENGINES, format="paddle")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("onnx", "auto", "cpu"), "runtime is 'onnx'; expected auto, onnxruntime, .*; did you mean 'onnxruntime'"),
        (("auto", "trt", "cpu"), "engine is 'trt'; expected auto, openvino, onednn, native, gpu, tensorrt"),
        (("auto", "tensorrt", "cpu"), "engine tensorrt belongs to the runtime paddle-inference on a GPU"),
        (("paddle", "native", "cpu"), "belongs to the runtime paddle-inference"),
        (("paddle-inference", "native", "gpu"), "on a CPU"),
        (("ncnn", "auto", "gpu"), "runtime ncnn does not run this network in fp32 on gpu; paddle-inference or paddle"),
    ],
)
@pytest.mark.usefixtures("everything")
def test_choices_that_cannot_work(asked: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_runtime(*asked)


@pytest.mark.usefixtures("everything")
def test_precisions_and_formats_that_cannot_work() -> None:
    with pytest.raises(UsageError, match="precision is 'int4'; expected fp32, bf16, fp16, int8"):
        resolve_runtime("auto", "auto", "cpu", precision="int4")
    with pytest.raises(UsageError, match="runtime onnxruntime does not run this network in bf16 on cpu; openvino"):
        resolve_runtime("onnxruntime", "auto", "cpu", precision="bf16")
    with pytest.raises(UsageError, match=r"runtime tflite does not run a network in the format onnx .* onnxruntime or"):
        resolve_runtime("tflite", "auto", "cpu", formats=["onnx"])


@pytest.mark.usefixtures("only_paddle")
def test_a_runtime_that_is_not_installed() -> None:
    with pytest.raises(
        MissingDependency, match=r"openvino, which is not installed: pip install 'mobilenext\[openvino\]'"
    ):
        resolve_runtime("openvino", "auto", "cpu")
    with pytest.raises(UsageError, match=r"no installed runtime runs .* ncnn would \(pip install 'mobilenext\[ncnn\]'"):
        resolve_runtime("auto", "auto", "cpu", formats=["ncnn"])


def test_precisions_of_a_processor() -> None:
    check_precision("fp32", [])
    check_precision("int8", ["avx2", "avx_vnni"])
    for precision, feature in (("int8", "avx512_vnni"), ("bf16", "avx512_bf16")):
        with pytest.raises(UsageError, match=f"{precision} was asked for, but this processor has none of {feature}"):
            check_precision(precision, ["avx2", "avx512f"])


def test_every_runtime_has_an_extra_and_a_module() -> None:
    import tomllib

    project = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    for card in RUNTIMES.values():
        assert card.extra in extras
        assert (Path(runtime.__file__).parent / f"{card.module}.py").is_file()


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"onnxruntime", "openvino", "paddle"}, "onnxruntime"),
        ({"openvino", "paddle"}, "openvino"),
        ({"paddle"}, "paddle-inference"),
        (set(), "paddle"),
    ],
)
def test_the_likely_runtime_is_the_first_that_is_installed(
    there: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobilenext.runtime.choice.installed", there.__contains__)
    assert likely_runtime("auto") == expected
    assert likely_runtime("ncnn") == "ncnn"
