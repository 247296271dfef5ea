from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mobilenext import predict
from mobilenext.files import sha256_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

DIGITS = "mobilenext_x0_35.digits"


def test_the_answers_are_those_of_predict(
    client: TestClient, digits: list[Path], expected: list[dict[str, Any]]
) -> None:
    for path, row in zip(digits, expected, strict=True):
        answer = client.post("/v1/predict", params={"topk": 3}, content=path.read_bytes()).json()
        assert [each["id"] for each in answer["classes"]] == row["classes"]
        assert [each["label"] for each in answer["classes"]] == row["labels"]
        assert [each["score"] for each in answer["classes"]] == pytest.approx(row["scores"], abs=1e-5)
        assert answer["model"] == DIGITS


def test_most_digits_are_recognised(client: TestClient, digits: list[Path]) -> None:
    truth = dict(
        line.split() for line in (digits[0].parents[1] / "val_list.txt").read_text().splitlines()
    )  # file name, label
    right = [
        str(client.post("/v1/predict", content=path.read_bytes()).json()["classes"][0]["id"]) == truth[path.name]
        for path in digits
    ]
    assert sum(right) >= len(right) - 1


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "image/x-anything; charset=none", ""])
def test_the_body_is_the_image(
    client: TestClient, digits: list[Path], expected: list[dict[str, Any]], kind: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post("/v1/predict", content=digits[0].read_bytes(), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["classes"][0]["id"] == expected[0]["classes"][0]


def test_the_image_is_a_part_of_a_form(client: TestClient, digits: list[Path], expected: list[dict[str, Any]]) -> None:
    files = {"file": ("../../etc/passwd", digits[0].read_bytes(), "text/html")}
    answer = client.post("/v1/predict", files=files, data={"other": "field"})
    assert answer.status_code == 200
    assert answer.json()["classes"][0]["id"] == expected[0]["classes"][0]


def test_a_photograph_is_turned_upright(client: TestClient, digits: list[Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "turned.png"
    Image.open(digits[3]).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    (row,) = predict([path], model=DIGITS, topk=10)
    answer = client.post("/v1/predict?topk=10", content=path.read_bytes()).json()
    upright = client.post("/v1/predict?topk=10", content=digits[3].read_bytes()).json()
    assert [each["id"] for each in answer["classes"]] == row["classes"]
    assert answer["classes"] == upright["classes"]


def test_no_more_classes_than_there_are(client: TestClient, digits: list[Path]) -> None:
    answer = client.post("/v1/predict?topk=1000", content=digits[0].read_bytes()).json()
    assert sorted(each["id"] for each in answer["classes"]) == list(range(10))
    assert sum(each["score"] for each in answer["classes"]) == pytest.approx(1, abs=1e-4)


def test_options_of_detectors_mean_nothing_to_a_classifier(client: TestClient, digits: list[Path]) -> None:
    answer = client.post("/v1/predict?clip=true", content=digits[0].read_bytes())
    assert answer.status_code == 422
    assert "clip means nothing to a network for classification" in answer.json()["detail"]
    assert {card["task"] for card in client.get("/v1/models").json()["models"]} == {"classification"}


def test_models_are_chosen_by_name(client: TestClient, digits: list[Path]) -> None:
    content = digits[0].read_bytes()
    weights, folder = (
        client.post("/v1/predict", params={"model": name}, content=content).json() for name in (DIGITS, "folder")
    )
    assert folder["model"] == "folder"
    assert [each["id"] for each in folder["classes"]] == [each["id"] for each in weights["classes"]]
    missing = client.post("/v1/predict?model=mobilenext_x9", content=content)
    assert missing.status_code == 404
    assert f"there are {DIGITS}, folder" in missing.json()["detail"]


def test_the_heat_map_is_on_what_the_network_saw(client: TestClient, digits: list[Path]) -> None:
    answer = client.post("/v1/predict?overlay=true", content=digits[0].read_bytes()).json()
    seen, heat = (
        Image.open(io.BytesIO(base64.b64decode(answer["overlay"][name].partition("base64,")[2])))
        for name in ("input_png", "heat_png")
    )
    assert (seen.mode, seen.size, heat.mode, heat.size) == ("RGB", (64, 64), "RGBA", (64, 64))
    by_hand = Image.open(digits[0]).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(seen), np.asarray(by_hand))
    assert np.asarray(heat)[..., 3].max() > 150
    assert answer["overlay"]["class_id"] == answer["classes"][0]["id"]


def test_explain_answers_with_a_picture(client: TestClient, digits: list[Path]) -> None:
    content = digits[0].read_bytes()
    pictures = [client.post(f"/v1/explain?class_id={number}", content=content) for number in (0, 8)]
    assert all(picture.headers["content-type"] == "image/png" for picture in pictures)
    assert all(Image.open(io.BytesIO(picture.content)).size == (64, 64) for picture in pictures)
    assert pictures[0].content != pictures[1].content
    answer = client.post("/v1/explain?class_id=10", content=content)
    assert answer.status_code == 422
    assert "0 to 9" in answer.json()["detail"]


def test_an_exported_model_cannot_explain_itself(client: TestClient, digits: list[Path]) -> None:
    for address in ("/v1/predict?model=folder&overlay=true", "/v1/explain?model=folder"):
        answer = client.post(address, content=digits[0].read_bytes())
        assert answer.status_code == 409
        assert "exported" in answer.json()["detail"]


def test_cards_say_what_the_models_are(client: TestClient) -> None:
    from mobilenext.weights.pretrained import BUNDLED

    first, second = client.get("/v1/models").json()["models"]
    assert first["name"] == DIGITS
    assert first["weights_sha256"] == sha256_of(BUNDLED / f"{DIGITS}.safetensors")
    assert (first["num_classes"], first["preprocessing"]["image_size"], first["licence"]) == (10, 64, "Apache-2.0")
    assert first["published"]["top1_percent"] == 98.664
    assert first["measured"]["network_latency_ms"] > 0
    assert (first["heat_map"], second["heat_map"]) == (True, False)
    assert second["name"] == "folder"


def test_health_and_metrics(client: TestClient, digits: list[Path]) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    line = f'mobilenext_images_total{{model="{DIGITS}"}}'

    def images() -> float:
        text = client.get("/metrics").text
        return next((float(each.split()[1]) for each in text.splitlines() if each.startswith(line)), 0)

    before = images()
    client.post("/v1/predict", content=digits[0].read_bytes())
    assert images() == before + 1
    client.get("/a/path/that/no/one/should/see/in/the/metrics")
    assert "no/one" not in client.get("/metrics").text


def test_every_answer_has_safe_headers(client: TestClient) -> None:
    for address in ("/", "/app.js", "/docs", "/openapi.json", "/v1/models", "/healthz", "/nowhere", "/metrics"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_errors_are_sentences(client: TestClient) -> None:
    for answer, status in (
        (client.get("/nowhere"), 404),
        (client.get("/v1/predict"), 405),
        (client.post("/v1/predict", content=b""), 400),
        (client.post("/v1/predict?topk=0", content=b"x"), 422),
        (client.post("/v1/predict?topk=many", content=b"x"), 422),
        (client.post("/v1/predict?overlay=perhaps", content=b"x"), 422),
        (client.post("/v1/predict", json={"url": "http://127.0.0.1/"}), 415),
        (client.post("/v1/predict", data={"file": "http://127.0.0.1/"}), 415),
        (client.post("/v1/predict", files={"other": b"x"}), 422),
        (client.post("/v1/predict", files=[("file", b"x"), ("file", b"y")]), 400),
        (client.post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400),
        (client.post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=a"}), 400),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert len(problem["detail"]) > 10


def test_uploads_stay_in_memory(client: TestClient, digits: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def rolled(*_: object) -> None:
        raise AssertionError("an upload was written to a file")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rolled)
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)).save(large, "PNG")
    assert len(large.getvalue()) > 4 * 2**20
    assert client.post("/v1/predict", files={"file": ("large.png", large.getvalue())}).status_code == 200


def test_no_page_asks_another_server(client: TestClient) -> None:
    for address in ("/", "/app.js", "/style.css", "/docs", "/docs.js", "/docs.css", "/icon.svg"):
        text = client.get(address).text.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", ""), address
