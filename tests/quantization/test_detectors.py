"""Detectors in int8: which pictures calibrate, which layers stay float32, and what is said of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boxed_folders import add_part, add_voc
from in_process import Pool
from mobilenext import predict
from mobilenext.cli import main
from mobilenext.detection.decoding import decode
from mobilenext.detection.export import form_of
from mobilenext.errors import CheckFailed, DataError, DatasetError, UsageError
from mobilenext.evaluation import run
from mobilenext.export import ONNX_PACKAGES
from mobilenext.export.post_processing import beside
from mobilenext.export.sidecar import read_sidecar
from mobilenext.machine.packages import installed
from mobilenext.quantization import onnx_int8, quantize
from mobilenext.quantization.images import divide_for
from mobilenext.quantization.report import lost, metric_of
from mobilenext.quantization.tables import quantization_lines
from mobilenext.runtime import RuntimeSpec, open_runtime
from mobilenext.sources import prepare
from mobilenext.tasks import find_task

for package in (*ONNX_PACKAGES, "onnxruntime", "faster_coco_eval"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extras quantize and detection)", allow_module_level=True)

DETECTION = find_task("detection")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """22 pictures, no two alike; the last four are the part test."""
    folder = tmp_path / "cells"
    for number in range(22):
        add_voc(folder, f"{number:02}", [("cell", (5, 5, 40, 40))], suffix=".png")
        Image.new("RGB", (100, 80), (number, 90, 30)).save(folder / "JPEGImages" / f"{number:02}.png")
    add_part(folder, "test", [f"{number:02}" for number in range(18, 22)])
    return folder


def test_pictures_that_are_evaluated_do_not_calibrate(cells: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    paths, dataset = divide_for(DETECTION, cells, {"data": cells, "split": "test", "calibration_images": 16})
    assert sorted(record.path.stem for record in dataset.records) == ["18", "19", "20", "21"]
    assert len(paths) == 16
    assert {path.stem for path in paths} <= {f"{number:02}" for number in range(18)}
    assert "4 images that are evaluated are left out of the calibration" in caplog.text
    shutil.rmtree(cells / "ImageSets")  # now all are evaluated
    with pytest.raises(DatasetError, match="has 22 images, of which 0 could calibrate; expected at least 16"):
        divide_for(DETECTION, cells, {"data": cells})


def test_the_same_picture_on_both_sides(cells: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(cells / "JPEGImages", others)
    with pytest.raises(DatasetError, match=r"is among the images to calibrate with and, as .*18\.png, among those"):
        divide_for(DETECTION, others, {"data": cells, "split": "test"})


def test_options_that_do_not_fit(cells: Path) -> None:
    with pytest.raises(UsageError, match="no data set to measure mAP on; expected --data, and a --split of it"):
        divide_for(DETECTION, cells, {})
    with pytest.raises(UsageError, match="calibration_list is of classifiers; expected a folder of images alone"):
        divide_for(DETECTION, cells, {"data": cells, "calibration_list": "a.txt"})
    with pytest.raises(UsageError, match="calibration_images is 15; expected at least 16"):
        divide_for(DETECTION, cells, {"data": cells, "calibration_images": 15})


def test_points_of_map_are_lost() -> None:
    results = {"fp32": {"map_percent": 68.0}, "int8": {"map_percent": 67.25}}
    assert lost(results, DETECTION) == 0.75
    with pytest.raises(DataError, match="these images have no mAP: nothing is to be found in them"):
        lost({**results, "int8": {"map_percent": None}}, DETECTION)


class Trials:
    """Evaluations that never happened: mAP by the folder of the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, percents: Mapping[str, float]) -> None:
        from mobilenext.quantization import quantize

        self.evaluated: list[str] = []
        self._percents = percents
        monkeypatch.setattr(quantize, "_evaluated", self._evaluated)

    def _evaluated(self, spec: Any, trial: Any) -> tuple[dict[str, Any], list[Any]]:
        self.evaluated.append(spec.folder.name)
        return {"map_percent": self._percents[spec.folder.name]}, [spec.folder.name]

    def run(self, max_drop: float) -> tuple[Any, ...]:
        from mobilenext.quantization.quantize import _evaluate_until, _Trial
        from mobilenext.quantization.report import Quantized
        from mobilenext.runtime import RuntimeSpec

        specs = {name: RuntimeSpec("onnxruntime", "", "cpu", 1, Path(name), "model.onnx") for name in self._percents}
        choices = tuple(
            (tuple(f"conv_{layer}" for layer in range(count)), specs[name])
            for name, count in (("int8-0", 0), ("int8-1", 1), ("int8-2", 2))
        )
        record: Any = SimpleNamespace()
        quantized = Quantized(
            record=record, labels_assumed=False, notes=(), layers=[], choices=choices,
            specs={"fp32": specs["fp32"], "int8": specs["int8-0"]},
        )  # fmt: skip
        dataset: Any = None
        return _evaluate_until(max_drop, quantized, _Trial(Path("work"), dataset, DETECTION, {}, None))


@pytest.mark.parametrize(("max_drop", "kept"), [(5.0, 0), (1.0, 1), (0.5, 2), (0.0, 2)])
def test_as_few_layers_as_possible_stay_float32(max_drop: float, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice that loses no more than it may; the last one where none is good enough."""
    trials = Trials(monkeypatch, {"fp32": 68.0, "int8-0": 64.0, "int8-1": 67.0, "int8-2": 67.75})
    results, rows, quantized, tried = trials.run(max_drop)
    assert trials.evaluated == ["fp32", *(f"int8-{number}" for number in range(kept + 1))]
    assert quantized.specs["int8"].folder.name == f"int8-{kept}" == rows["int8"][0]
    assert [choice["lost_points"] for choice in tried] == [4.0, 1.0, 0.25][: kept + 1]
    assert len(tried[-1]["keep_float"]) == kept
    assert results["int8"]["map_percent"] == {0: 64.0, 1: 67.0, 2: 67.75}[kept]


def a_report(**changes: Any) -> dict[str, Any]:
    latency = {"median": 20.0}
    sides = {
        name: {"map_percent": percent, "bytes": size, "latency_ms": latency}
        for name, percent, size in (("fp32", 68.0, 6_000_000), ("int8", 67.25, 2_000_000))
    }
    return {
        "model": "ssdlite320_mobilenext_x0_35", **sides, "images": 72, "speedup": 1.5, "max_drop": 1.0,
        "data": {"folder": "cells"}, "calibration": {"images": 32}, "task": "detection",
        "metric": metric_of(DETECTION), "keep_float": ["conv_0"],
        "layers": [{"layer": name, "signal_to_noise_db": 26.7} for name in ("conv_0", "conv_2", "conv_5")],
        "tried": [{"keep_float": [], "lost_points": 4.0}, {"keep_float": ["conv_0"], "lost_points": 0.75}],
        **changes,
    }  # fmt: skip


def test_the_lines_of_a_report() -> None:
    text = "\n".join(quantization_lines(a_report()))
    assert "| fp32 | 68.00 % | 6.00 MB |" in text
    assert "| int8 | 67.25 % | 2.00 MB |" in text
    assert "kept in float32: conv_0" in text
    assert "0 layers in float32: 4.00 points of mAP lost\n1 layers in float32: 0.75 points of mAP lost" in text
    assert "outputs' signal to noise" in text
    assert "top-1" not in text


def test_a_loss_that_is_too_large() -> None:
    from mobilenext.quantization.quantize import _check_drop

    results = {"fp32": {"map_percent": 68.0, "objects": 300}, "int8": {"map_percent": 64.0, "objects": 300}}
    with pytest.raises(
        CheckFailed, match=r"int8 loses 4\.00 points of mAP .* on 72 images\), more than --max-drop 1\."
    ):
        _check_drop(a_report(), results, DETECTION)
    _check_drop(a_report(max_drop=4), results, DETECTION)


def two_heads(path: Path) -> Path:
    """Scores and regressions [N, 4, 3, 3] of a picture [N, 3, 8, 8]; one weight of the second head is far too large."""
    import onnx

    make, types = onnx.helper, onnx.TensorProto
    random = np.random.default_rng(0)
    values = {name: random.normal(size=(4, 3, 3, 3)).astype(np.float32) for name in ("a", "b")}
    values["b"][:, 0, 0, 0] = 300
    nodes = [
        make.make_node("Conv", ["image", name], [output], f"head_{name}", strides=[2, 2])
        for name, output in (("a", "scores"), ("b", "regressions"))
    ]
    graph = make.make_graph(
        nodes, "g", [make.make_tensor_value_info("image", types.FLOAT, ["batch", 3, 8, 8])],
        [make.make_tensor_value_info(name, types.FLOAT, ["batch", 4, 3, 3]) for name in ("scores", "regressions")],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def test_layers_of_a_network_with_two_outputs(tmp_path: Path) -> None:
    """The worse of both outputs counts, and no top-1 is spoken of."""
    from mobilenext.quantization.onnx_int8 import calibrate, layer_losses

    file = two_heads(tmp_path / "a.onnx")
    images = np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)
    images[:, 0] = 0  # what the large weight looks at: it only takes precision from the others
    ranges = calibrate(file, [images], tmp_path)
    losses = layer_losses(file, ranges, images, ("scores", "regressions"))
    assert [loss.layer for loss in losses] == ["head_b", "head_a"]
    assert losses[0].signal_to_noise_db < 20 < losses[1].signal_to_noise_db
    assert losses[0].to_dict().keys() == {"layer", "signal_to_noise_db"}


def test_sums_do_not_overflow(tmp_path: Path) -> None:
    """The largest activations by the largest weights, on any processor: 16 bits, as AVX2 adds pairs in, are too few."""
    import onnx

    from mobilenext.quantization.onnx_int8 import calibrate, quantize
    from mobilenext.runtime.onnx_runtime import open_session

    make, types = onnx.helper, onnx.TensorProto
    graph = make.make_graph(
        [make.make_node("Conv", ["image", "weight"], ["map"], "conv")], "g",
        [make.make_tensor_value_info("image", types.FLOAT, ["batch", 16, 8, 8])],
        [make.make_tensor_value_info("map", types.FLOAT, ["batch", 8, 8, 8])],
        [onnx.numpy_helper.from_array(np.ones((8, 16, 1, 1), np.float32), "weight")],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, os.fspath(tmp_path / "a.onnx"))
    images = np.ones((2, 16, 8, 8), np.float32)
    images[0] = 0
    quantize(tmp_path / "a.onnx", tmp_path / "int8.onnx", calibrate(tmp_path / "a.onnx", [images], tmp_path))
    (output,) = open_session(tmp_path / "int8.onnx").run(None, {"image": images})
    assert np.abs(output[1] - 16).max() < 0.2


SMALL = {"image_size": 224}
CARD = "ssdlite320_mobilenext_x0_35.bccd"


@pytest.fixture
def found_by_float(tmp_path: Path) -> Path:
    """22 pictures; in the last four, the part test, stands what the float detector finds with most confidence."""
    folder, random = tmp_path / "cells", np.random.default_rng(0)
    (folder / "JPEGImages").mkdir(parents=True)
    names = [f"{number:02}" for number in range(22)]
    for name in names:
        small = Image.fromarray(random.integers(0, 256, (5, 5, 3)).astype(np.uint8))
        small.resize((224, 224), Image.Resampling.BICUBIC).save(folder / "JPEGImages" / f"{name}.png")
    paths = [folder / "JPEGImages" / f"{name}.png" for name in names[18:]]
    answers = predict(paths, model=CARD, preprocessing=SMALL, runtime="paddle", device="cpu", max_detections=5)
    for path, answer in zip(paths, answers, strict=True):
        pixels = path.read_bytes()
        objects = [(row["name"], [round(side) + 1 for side in row["box"]]) for row in answer["detections"]]
        add_voc(folder, path.stem, objects, suffix=".png", size=(224, 224))
        path.write_bytes(pixels)
    add_part(folder, "test", names[18:])
    return folder


@pytest.mark.long  # its steps one by one: above; the command: test_quantize.py
@pytest.mark.usefixtures("short_latency")
def test_the_command(found_by_float: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibrated, measured and written: the folder's two models agree, and it loses what the report says."""
    for module in (quantize, run):
        monkeypatch.setattr(module, "WorkerPool", Pool)
    for module in (quantize, prepare):  # what is tested here does not depend on the speed
        monkeypatch.setattr(module, "check_precision", lambda *arguments: None)
    monkeypatch.setattr(quantize, "LAYER_IMAGES", 1)
    every_layer = onnx_int8.layers
    monkeypatch.setattr(onnx_int8, "layers", lambda file: every_layer(file)[:3])  # each costs a session
    output = found_by_float.parent / "int8"
    code = main([
        "quantize", "--model", CARD, "--image-size", "224", "--calibration", str(found_by_float),
        "--calibration-images", "16", "--data", str(found_by_float), "--split", "test", "--max-drop", "30",
        "-o", str(output),
    ])  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    report = json.loads((output / "quantization.json").read_text())
    files = {path.name for path in output.iterdir()}
    assert files == {"mobilenext.json", "model.onnx", "model_boxes.onnx", "priors.npy", "quantization.json"}
    before, after = report["fp32"]["map_percent"], report["int8"]["map_percent"]
    assert before > 50, "it finds again what it has found"
    assert report["lost_points"] == pytest.approx(before - after, abs=1e-3)
    assert report["lost_points"] <= 30
    assert (report["images"], report["calibration"]["images"], report["tried"][-1]["keep_float"]) == (4, 16, [])
    assert f"{before:.2f} %" in printed
    assert f"{after:.2f} %" in printed

    sidecar = read_sidecar(output)
    assert (sidecar.precision, sidecar.record.task) == ("int8", "detection")
    spec = RuntimeSpec("onnxruntime", "", "cpu", 1, output, sidecar.file, "int8", "image", ("scores", "regressions"))
    with Image.open(found_by_float / "JPEGImages" / "20.png") as image:
        batch = sidecar.record.preprocessing(image.convert("RGB"))[None]
    (expected,) = decode(*open_runtime(spec).predict(batch), form=form_of(sidecar.record))
    assert sidecar.post_processing is not None
    boxes, labels, _, _ = open_runtime(beside([spec], sidecar.post_processing)[0]).predict(batch)
    assert np.array_equal(labels, expected.labels)
    assert np.abs(boxes - expected.boxes).max() < 0.05
