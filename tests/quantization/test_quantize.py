from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mobilenext.classification.metrics import softmax
from mobilenext.errors import CheckFailed, DatasetError, UsageError
from mobilenext.evaluation.run import evaluate
from mobilenext.export import ONNX_PACKAGES
from mobilenext.export.sidecar import SIDECAR, read_sidecar
from mobilenext.machine.packages import installed
from mobilenext.quantization import quantize
from mobilenext.quantization.quantize import REPORT, quantize_model
from mobilenext.quantization.tables import quantization_lines
from processors import needs_int8

if TYPE_CHECKING:
    from tests.conftest import World

for package in (*ONNX_PACKAGES, "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra quantize)", allow_module_level=True)

WEIGHT = np.random.default_rng(7).normal(size=(3, 5)).astype(np.float32)
SMALL = {"image_size": 32, "crop_pct": 1.0}


@pytest.fixture(scope="module", autouse=True)
def _a_processor_with_vnni() -> Any:
    """What is tested here does not depend on the speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "check_precision", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def quantized(long_world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("int8") / "out"
    report = quantize_model(
        output, calibration=long_world.data, weights=long_world.weights, preprocessing=SMALL, max_drop=100,
        calibration_images=24,
    )  # fmt: skip
    return output, report


@needs_int8
def test_the_folder_and_the_report(long_world: World, quantized: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output, report = quantized
    assert {path.name for path in output.iterdir()} == {SIDECAR, "model.onnx", REPORT}
    assert json.loads((output / REPORT).read_text()) == report
    sidecar = read_sidecar(output)
    assert (sidecar.format, sidecar.precision) == ("onnx", "int8")

    total = len(long_world.labels)
    assert report["images"] + report["calibration"]["images"] == total
    calibrated = set(report["calibration"]["names"])
    rest = [
        (best, label)
        for best, label, name in zip(long_world.ranking(), long_world.labels, long_world.names, strict=True)
        if Path(name).name not in calibrated
    ]
    assert report["fp32"]["correct_top1"] == sum(best[0] == label for best, label in rest)
    lost = report["fp32"]["top1_percent"] - report["int8"]["top1_percent"]
    assert report["lost_points"] == pytest.approx(lost, abs=1e-3)
    assert report["size_ratio"] > 2.5
    assert report["int8"]["bytes"] == (output / "model.onnx").stat().st_size
    assert [row["signal_to_noise_db"] for row in report["layers"]] == sorted(
        row["signal_to_noise_db"] for row in report["layers"]
    )
    text = "\n".join(quantization_lines(report))
    assert f"calibrated with {report['calibration']['images']} images" in text
    assert report["layers"][0]["layer"] in text

    # The folder alone gives the counts that the report has.
    names = [name for name in long_world.names if Path(name).name not in calibrated]
    labels = dict(zip(long_world.names, long_world.labels, strict=True))
    listed = tmp_path / "rest.txt"
    listed.write_text("".join(f"{(long_world.data / name).resolve()} {labels[name]}\n" for name in names))
    result = evaluate(long_world.data, exported=output, list_file=listed, workers=1, runtime="onnxruntime")
    assert result["precision"] == "int8"
    assert result["correct_top1"] == report["int8"]["correct_top1"]
    with pytest.raises(UsageError, match="is int8, which no runtime can turn back into fp32"):
        evaluate(long_world.data, exported=output, precision="fp32", workers=1)


@needs_int8
def test_the_gate(long_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = quantize._evaluate

    def worse(exported: Path, *arguments: Any) -> dict[str, Any]:
        result = real(exported, *arguments)
        return result if exported.name == "fp32" else {**result, "top1_percent": result["top1_percent"] - 1.5}

    monkeypatch.setattr(quantize, "_evaluate", worse)
    options: dict[str, Any] = {"calibration": long_world.data, "weights": long_world.weights, "preprocessing": SMALL}
    with pytest.raises(CheckFailed, match=r"points of top-1 .*more than --max-drop 0\. .*--keep-float \w+_\d+ .*"):
        quantize_model(tmp_path / "out", **options, calibration_images=16, max_drop=0)
    assert list(tmp_path.iterdir()) == []


def test_calibration_images(long_world: World, tmp_path: Path) -> None:
    data, options = long_world.data, {"weights": long_world.weights, "preprocessing": SMALL}
    few = tmp_path / "few"
    few.mkdir()
    for name in long_world.names[:3]:
        shutil.copy(data / name, few)
    with pytest.raises(DatasetError, match=r"few has 3 images, of which 3 could calibrate; expected at least 16"):
        quantize_model(tmp_path / "out", calibration=few, data=data, **options)
    with pytest.raises(DatasetError, match=r"this is a checkpoint of .*; expected a folder"):
        quantize_model(tmp_path / "out", calibration=long_world.weights, **options)
    same = tmp_path / "same"
    same.mkdir()
    for number, name in enumerate(long_world.names[:20]):
        shutil.copy(data / name, same / f"other {number}.png")
    with pytest.raises(DatasetError, match=r"is among the images to calibrate with and, as imgs/val .*, among"):
        quantize_model(tmp_path / "out", calibration=same, data=data, **options)
    for change, message in (
        ({"calibration_images": 3}, "calibration_images is 3; expected at least 16"),
        ({"max_drop": -1}, "max_drop is -1"),
        ({"list_file": "a.txt"}, r"without the data set that it is of \(--data\)"),
    ):
        with pytest.raises(UsageError, match=message):
            quantize_model(tmp_path / "out", **{"calibration": data, **options, **change})
    assert not (tmp_path / "out").exists()


def test_other_forms(long_world: World, tmp_path: Path) -> None:
    """A batch of 4, channels last, bytes in and a softmax inside: quantized in that form, which the sidecar says."""
    from tests.onnx_models import classifier

    from mobilenext.data import pixels_of
    from mobilenext.runtime import RuntimeSpec, open_runtime
    from mobilenext.runtime.form import Form
    from mobilenext.sources.find import find_subject

    path = classifier(tmp_path / "a.onnx", batch=4, layout="NHWC", dtype="uint8", end="Softmax", weight=WEIGHT / 50)
    (tmp_path / "work").mkdir()
    chosen = [long_world.data / name for name in long_world.names[:18]]
    subject = find_subject(onnx=path, labels=tuple("abcde"))
    told: list[tuple[int, int]] = []
    quantized = quantize._quantize(subject, tmp_path / "work", chosen, (), lambda *numbers: told.append(numbers))
    assert told[-2:] == [(18, 19), (19, 19)]  # all images have calibrated, then the only layer was tried
    folder = quantized.specs["int8"].folder
    sidecar = read_sidecar(folder)
    assert (sidecar.form, sidecar.layout) == (Form(4, "NHWC", "uint8", "probabilities"), "NHWC")
    assert (sidecar.precision, sidecar.record.labels) == ("int8", tuple("abcde"))
    spec = RuntimeSpec(
        "onnxruntime", "", "cpu", 1, folder, sidecar.file, "int8", sidecar.input,
        tuple(output.name for output in sidecar.outputs),
        form=sidecar.form,
    )  # fmt: skip
    preprocessing = sidecar.record.preprocessing
    pixels = np.stack([pixels_of(each, preprocessing) for each in chosen[:6]])
    (logits,) = open_runtime(spec).predict(preprocessing.normalize(pixels))
    expected = pixels.mean((1, 2), dtype=np.float64) @ WEIGHT / 50
    assert np.abs(softmax(logits) - softmax(expected)).max() < 0.05
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.5


def test_what_cannot_be_quantized(tmp_path: Path) -> None:
    import onnx
    from tests.onnx_models import classifier

    from mobilenext.quantization.onnx_int8 import make_ready

    for change, message in (("QuantizeLinear", "is quantized already"), ("FLOAT16", "holds 16-bit weights")):
        model = onnx.load(str(classifier(tmp_path / "a.onnx")))
        if change == "FLOAT16":
            model.graph.initializer[0].data_type = onnx.TensorProto.FLOAT16
        else:
            model.graph.node.append(onnx.helper.make_node(change, ["logits", "scale"], ["short"]))
        (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(UsageError, match=message):
            make_ready(tmp_path / "b.onnx", tmp_path / "ready.onnx")


def test_a_processor_without_vnni(long_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mobilenext.runtime import check_precision

    monkeypatch.setattr(quantize, "check_precision", check_precision)
    monkeypatch.setattr(quantize, "processor", lambda: ("an old one", ["avx2"]))
    with pytest.raises(UsageError, match="int8 was asked for, but this processor has none of avx512_vnni"):
        quantize_model(tmp_path / "out", calibration=long_world.data, weights=long_world.weights)


@needs_int8
def test_what_is_quantised_already(quantized: tuple[Path, dict[str, Any]], long_world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is int8 already; quantize the float32 one"):
        quantize_model(tmp_path / "out", calibration=long_world.data, exported=quantized[0])
    assert list(tmp_path.iterdir()) == []


def test_keywords_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"quantize_model\(\) got an unexpected keyword argument 'threads'"):
        quantize_model(tmp_path / "out", calibration=tmp_path, threads=2)  # type: ignore[call-arg]
