"""A detector through the whole evaluation, on the files that it reads and writes; Paddle runs it in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxed_pictures import write_pictures
from in_process import Pool
from mobilenext import create_model, evaluate, predict
from mobilenext.detection import average_precision
from mobilenext.detection.preprocessing import detection_preprocessing
from mobilenext.errors import DatasetError, UsageError
from mobilenext.evaluation import collecting, latency, run
from mobilenext.models.detector_form import FORMS
from mobilenext.runs.journal import JOURNAL, read_predictions
from mobilenext.runs.result import read_result
from mobilenext.weights import naming
from mobilenext.weights.record import Weights
from mobilenext.weights.write import write_weights

MODEL = "ssdlite320_mobilenext_x0_35"
HOW: dict[str, Any] = {"runtime": "paddle", "device": "cpu", "workers": 1, "batch_size": 3}
CORNERS = re.compile(r"<name>(\w+)</name>.*?<xmin>(\d+)</xmin><ymin>(\d+)</ymin><xmax>(\d+)</xmax><ymax>(\d+)</ymax>")


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module in (run, collecting):
            patched.setattr(module, "WorkerPool", Pool)
        patched.setattr(
            latency, "measure_latency", lambda *_: dict.fromkeys(("median", "p10", "p90"), 1.0) | {"threads": 1}
        )
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import paddle

    paddle.seed(0)
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    network = create_model(MODEL, num_classes=2, form=FORMS["voc"].replace(image_size=224))
    write_weights(
        Weights(
            model=MODEL, num_classes=2, identity_divisor=1, task="detection", labels=("disc", "square"), path=path,
            architecture={"form": network.form.to_dict()}, preprocessing=detection_preprocessing(224), sha256="",
            source_name="a test", source_sha256="", card=None, kind="raw", notes=(), dialect="paddle", dropped=(),
            tensors={name: tensor.numpy() for name, tensor in network.state_dict().items()},
            entries=naming.entries_of(network),
        ),
        path,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data", {"train": 1, "test": 7})


@pytest.fixture(scope="module")
def folder(pictures: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(pictures, weights=weights, output=folder, **HOW)
    return folder


def ground_truth(pictures: Path) -> dict[str, Any]:
    """The annotations as COCO has them, read from their text; the files count from 1."""
    ids = [f"test{number}" for number in range(7)]
    annotations = []
    for name in ids:
        for kind, *corners in CORNERS.findall((pictures / f"Annotations/{name}.xml").read_text()):
            left, top, right, bottom = (int(value) - 1 for value in corners)
            box = [left, top, right - left, bottom - top]
            annotations.append({"image_id": name, "category_id": 1 + (kind == "square"), "bbox": box})
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    return {"images": [{"id": name} for name in ids], "categories": categories, "annotations": annotations}


def test_the_result_is_that_of_the_files(folder: Path, pictures: Path) -> None:
    """COCO's file of results and the annotations give the numbers of the result."""
    result = read_result(folder / "result.json")
    results = json.loads((folder / "coco_results.json").read_text())
    numbers = average_precision(ground_truth(pictures), results)
    per_class = numbers.pop("per_class")
    assert numbers["AR100"] > 0
    assert {name: result[name] for name in numbers} == pytest.approx(numbers, abs=1e-6)
    assert {row["name"]: row["AP50"] for row in result["per_class"]} == pytest.approx(
        {name: row["AP50"] for name, row in per_class.items()}, abs=1e-6
    )
    assert (result["task"], result["images"], result["map_rule"]) == ("detection", 7, "voc_AP_11_point")
    rows = read_predictions(folder, "detection")
    assert [row.path for row in rows] == [f"JPEGImages/test{number}.jpg" for number in range(7)]
    assert sum(len(row.scores) for row in rows) == len(results) == result["detections"]
    assert [len(row.truth.labels) for row in rows] == [2, 2, 2, 0, 2, 2, 2]
    assert result["objects"] == 12


def test_other_options_are_another_evaluation(folder: Path, pictures: Path, weights: Path, tmp_path: Path) -> None:
    result = evaluate(pictures, weights=weights, output=folder, resume=True, score_threshold=0.01, **HOW)
    assert result == read_result(folder / "result.json")  # the threshold of the form
    with pytest.raises(UsageError, match="is of another evaluation"):
        evaluate(pictures, weights=weights, output=folder, resume=True, flip=True, **HOW)
    mirrored = evaluate(
        pictures, weights=weights, output=tmp_path, flip=True, clip=True, max_detections=5, limit=3, **HOW
    )
    names = ("flip", "clip", "max_detections", "partial")
    assert [mirrored[name] for name in names] == [True, True, 5, True]
    assert not (tmp_path / JOURNAL).exists()
    for row in read_predictions(tmp_path, "detection"):
        assert len(row.scores) == 5
        assert row.boxes.min() >= 0
        assert (row.boxes <= [96, 80, 96, 80]).all()


def test_single_pictures(folder: Path, pictures: Path, weights: Path) -> None:
    """The same boxes that the evaluation stores, and cut at the edges where nothing else is asked for."""
    path = pictures / "JPEGImages/test0.jpg"
    first, *_ = read_predictions(folder, "detection")
    (row,) = predict(path, weights=weights, runtime="paddle", device="cpu", clip=False)
    assert (row["file"], row["width"], row["height"], row["task"]) == (str(path), 96, 80, "detection")
    detections = row["detections"]
    assert [found["label"] for found in detections] == first.labels.tolist()
    assert [found["name"] for found in detections] == [("disc", "square")[label - 1] for label in first.labels]
    assert [found["box"] for found in detections] == [pytest.approx(box, abs=0.01) for box in first.boxes.tolist()]
    (clipped,) = predict(path, weights=weights, runtime="paddle", device="cpu", max_detections=10)
    boxes = [found["box"] for found in clipped["detections"]]
    assert boxes == [
        [min(max(value, 0), side) for value, side in zip(found["box"], (96, 80, 96, 80), strict=True)]
        for found in detections[:10]
    ]


def test_data_and_options_that_do_not_fit(pictures: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="topk means nothing to a network for detection"):
        predict(pictures / "JPEGImages/test0.jpg", weights=weights, topk=3)
    with pytest.raises(DatasetError, match=r"no annotations of boxes"):
        evaluate(pictures / "JPEGImages", weights=weights, output=tmp_path / "out", **HOW)
    assert not (tmp_path / "out").exists()
