"""A detector behind the server: objects of one image, thresholds of a request, and what it cannot do."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mobilenext.errors import UsageError
from mobilenext.models import MODELS
from mobilenext.models.detector_form import detection_preprocessing, find_form
from mobilenext.serving import models as module
from mobilenext.serving.models import open_models

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from mobilenext.models.cards import WeightsCard
    from mobilenext.serving.models import ServedModel

FORM, NAMES = find_form("voc"), ("cell", "platelet")
PLACES = {100: (1, 0.9), 2450: (2, 0.6), 3100: (1, 0.2)}  # a prior, the class that it sees, and its score


class Network:
    """Raw outputs of three objects, whatever the image; no Paddle, no file."""

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        priors = sum(side * side * count for side, count in zip(FORM.sides, FORM.priors_per_cell, strict=True))
        scores = np.zeros((len(batch), priors, 3), np.float32)
        scores[:, :, 0] = 20
        for prior, (label, score) in PLACES.items():
            scores[:, prior] = np.log([1 - score, 1e-9, 1e-9])
            scores[:, prior, label] = np.log(score)
        return scores, np.zeros((len(batch), priors, 4), np.float32)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[ServedModel]]:
    def opened(published: WeightsCard | None = None, **options: Any) -> list[ServedModel]:
        folder = tmp_path_factory.mktemp("served")
        record = SimpleNamespace(
            preprocessing=detection_preprocessing(FORM.image_size), labels=NAMES, num_classes=2, task="detection",
            architecture={"form": FORM.to_dict()}, published=published, model="ssdlite320_mobilenext_x0_35", card=None,
            path=folder / "cells.safetensors", sha256="0" * 64, kind="raw",
        )  # fmt: skip
        spec = SimpleNamespace(describe=lambda: "none", threads=1)
        prepared = SimpleNamespace(record=record, notes=(), spec=spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "prepare", lambda *_: prepared)
            patch.setattr(module, "open_runtime", lambda _: Network())
            subject: Any = SimpleNamespace(kind="weights", path=record.path)
            return open_models([("", subject)], folder, **options)

    return opened


@pytest.fixture(scope="module")
def detector(opened: Callable[..., list[ServedModel]], open_client: Callable[..., TestClient]) -> Iterator[TestClient]:
    with open_client(opened(answering={"score_threshold": 0.1})) as client:
        yield client


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A photo of 200 x 100 pixels that lies on its side."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.new("RGB", (100, 200), (90, 90, 90)).save(file, "PNG", exif=exif)
    return file.getvalue()


def test_objects_of_an_image(detector: TestClient, photo: bytes) -> None:
    """Boxes are the priors themselves: their places are arithmetic on the form, in pixels of the upright photo."""
    answer = detector.post("/v1/predict", files={"file": ("/etc/photo.png", photo)}).json()
    assert [answer[name] for name in ("model", "task", "file")] == ["cells", "detection", "photo.png"]
    assert (answer["width"], answer["height"]) == (200, 100)
    objects = answer["detections"]
    assert [(row["label"], row["name"]) for row in objects] == [(1, "cell"), (2, "platelet"), (1, "cell")]
    assert [row["score"] for row in objects] == sorted((row["score"] for row in objects), reverse=True)
    # Prior 100 is the fifth of cell 16 of the first row: 16 pixels a cell, ratio 3, from a square of 45.
    x, y, wide, high = 16.5 * 16, 8, 45 * 3**0.5, 45 / 3**0.5
    corners = np.array([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]) * np.tile([200 / 320, 100 / 320], 2)
    assert objects[0]["box"] == pytest.approx(corners.clip(0, [200, 100, 200, 100]).tolist(), abs=1e-3)


def test_options_of_a_request(detector: TestClient, photo: bytes) -> None:
    def scores(query: str) -> list[float]:
        answer = detector.post(f"/v1/predict?{query}", content=photo)
        assert answer.status_code == 200, answer.text
        return [row["score"] for row in answer.json()["detections"]]

    everything = scores("")
    assert len(everything) == 3
    assert scores("score_threshold=0.5") == everything[:2]
    assert scores("max_detections=1") == everything[:1]
    whole = detector.post("/v1/predict?clip=false", content=photo).json()
    assert whole["file"] is None
    assert whole["detections"][0]["box"][1] < 0


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("/v1/predict?topk=3", 422, "topk means nothing to a network for detection"),
        ("/v1/predict?score_threshold=0.001", 422, "greater than or equal to 0.01"),
        ("/v1/predict?iou_threshold=nan", 422, "iou_threshold"),
        ("/v1/predict?max_detections=100000", 422, "less than or equal to 1000"),
        ("/v1/predict?overlay=true", 409, "a heat map explains a class of a whole image"),
        ("/v1/explain", 409, "this network is for detection"),
    ],
)
def test_what_it_cannot_do(detector: TestClient, photo: bytes, address: str, status: int, message: str) -> None:
    answer = detector.post(address, content=photo)
    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_the_list_of_models_says_what_they_are_for(detector: TestClient) -> None:
    (cells,) = detector.get("/v1/models").json()["models"]
    assert (cells["task"], cells["answering"], cells["heat_map"]) == ("detection", {"score_threshold": 0.1}, False)


def test_the_sample_of_a_model(
    opened: Callable[..., list[ServedModel]], open_client: Callable[..., TestClient]
) -> None:
    (bundled,) = MODELS["ssdlite320_mobilenext_x0_35"].weights
    with open_client(opened(published=bundled)) as client:
        assert client.get("/v1/models").json()["models"][0]["sample"] is True
        assert client.get("/v1/models").json()["models"][0]["samples"] == 1
        answer, other = client.get("/v1/sample"), client.get("/v1/sample?number=1")
    assert (other.status_code, "has 1 sample," in other.json()["detail"]) == (404, True)
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (640, 480))


def test_a_model_without_a_sample(detector: TestClient) -> None:
    assert detector.get("/v1/models").json()["models"][0]["sample"] is False
    answer = detector.get("/v1/sample")
    assert (answer.status_code, answer.json()["detail"]) == (404, "cells comes without a sample")


def test_its_answer_is_described(detector: TestClient, photo: bytes) -> None:
    schemas = detector.get("/openapi.json").json()["components"]["schemas"]
    answer = detector.post("/v1/predict", content=photo).json()
    assert schemas["Detections"]["properties"].keys() == answer.keys()
    assert schemas["Detection"]["properties"].keys() == answer["detections"][0].keys()


def test_options_of_the_server(opened: Callable[..., list[ServedModel]]) -> None:
    with pytest.raises(UsageError, match="score_threshold"):
        opened(answering={"score_threshold": 2.0})
    with pytest.raises(UsageError, match="topk means nothing to the models that are served"):
        opened(answering={"topk": 3})
