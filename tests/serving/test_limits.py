from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from hostile_images import bmp

if TYPE_CHECKING:
    from starlette.testclient import TestClient


Opener = Callable[..., "TestClient"]


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims so many pixels and that holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("form", [False, True])
def test_a_body_above_the_limit_is_413(open_client: Opener, models: list[Any], chunked: bool, form: bool) -> None:
    content = b"x" * 200_000
    kind = "application/octet-stream"
    if form:
        kind = "multipart/form-data; boundary=a"
        content = (
            b'--a\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + content + b"\r\n--a--\r\n"
        )

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    with open_client(models[1:], max_body_bytes=100_000) as client:
        answer = client.post("/v1/predict", content=pieces() if chunked else content, headers={"Content-Type": kind})
    assert answer.status_code == 413
    assert "100,000 bytes" in answer.json()["detail"]


def test_pixels_above_the_limit_are_422_before_they_are_decoded(open_client: Opener, models: list[Any]) -> None:
    with open_client(models[1:], max_pixels=65_536) as client:
        assert client.post("/v1/predict", content=encoded("PNG")).status_code == 200  # 256 x 256
        for content in (png_claiming(257, 256), png_claiming(60_000, 60_000), png_claiming(2**31 - 1, 2**31 - 1)):
            answer = client.post("/v1/predict", content=content)
            assert answer.status_code == 422
            assert "pixels" in answer.json()["detail"] or "header is broken" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (encoded("GIF"), 200),
        (encoded("JPEG", "CMYK"), 200),
        (encoded("TIFF"), 200),
        (encoded("WEBP"), 200),
        (encoded("PNG", "LA"), 200),
        (encoded("PNG", "1"), 200),
        (encoded("PNG")[:-40], 422),
        (encoded("JPEG")[:300], 422),
        (encoded("GIF")[:20], 422),
        (b"<html>not found</html>", 422),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422),
        (b"\x00", 422),
        (b"\xff\xd8\xff\xe0" + bytes(1000), 422),
        (encoded("TIFF", "F"), 422),
        (b"version https://git-lfs.github.com/spec/v1\n", 422),
    ],
)
def test_odd_files(client: TestClient, content: bytes, status: int) -> None:
    for answer in (
        client.post("/v1/predict", content=content),
        client.post("/v1/predict", files={"file": ("photo.png", content, "image/png")}),
    ):
        assert answer.status_code == status, answer.text
        if status != 200:
            assert answer.json()["detail"].startswith("the upload")
            assert "0x" not in answer.text  # the address of an object
            assert "/" not in answer.json()["detail"].replace("git-lfs", "")


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "PPM"])
def test_a_format_that_is_not_served_is_415_unless_asked_for(open_client: Opener, models: list[Any], kind: str) -> None:
    content = encoded(kind)
    with open_client(models[1:]) as client:
        answer = client.post("/v1/predict", content=content)
        assert answer.status_code == 415
        assert f"format {kind}; this server reads AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP" in answer.json()["detail"]
        assert kind not in client.get("/v1/models").json()["limits"]["formats"]
    with open_client(models[1:], formats=("JPEG", kind)) as client:
        assert client.post("/v1/predict", content=content).status_code == 200
        assert client.post("/v1/predict", content=encoded("PNG")).status_code == 415


def test_hostile_uploads_leave_the_server_to_others(open_client: Opener, models: list[Any], digits: list[Path]) -> None:
    """Each takes longer than its time; nothing that decodes one goes on after its answer."""
    slow = bmp(10_000_000, 1)
    with open_client(models[1:], timeout_s=2.0) as client, ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(client.post, "/v1/predict", content=slow) for _ in range(3)]
        good = client.post("/v1/predict", content=digits[0].read_bytes())
        assert good.status_code in (200, 504)  # of a machine with other work
        assert {answer.result().status_code for answer in asked} <= {422, 504}
        wait_until(lambda: not busy_children())
        assert client.post("/v1/predict", content=digits[0].read_bytes()).status_code == 200


def busy_children() -> list[str]:
    """Processes of this one that are running, and not waiting."""
    children: list[str] = []
    for thread in Path("/proc/self/task").iterdir():
        children += (thread / "children").read_text().split()
    return [each for each in children if " R " in Path(f"/proc/{each}/stat").read_text()]


def test_the_time_of_an_image_is_half_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from mobilenext.serving.limits import Limits

    assert Limits(timeout_s=6.0).image.seconds == 3.0
    assert Limits(timeout_s=600.0, max_pixels=7).image.seconds == 10.0
    assert Limits(max_pixels=7).image.pixels == 7
    monkeypatch.setenv("MOBILENEXT_IMAGE_SECONDS", "1")
    assert Limits().image.seconds == 1.0


def test_a_full_server_is_503_and_one_greedy_client_429(
    open_client: Opener, slow: tuple[Any, Any], digits: list[Path]
) -> None:
    model, network = slow
    content = digits[0].read_bytes()
    with (
        open_client([model], max_concurrency=4, max_per_client=3) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        asked = [threads.submit(client.post, "/v1/predict", content=content) for _ in range(3)]
        wait_until(lambda: "mobilenext_predictions_inside 3.0" in client.get("/metrics").text)
        greedy = client.post("/v1/predict", content=content)
        assert (greedy.status_code, greedy.headers["retry-after"]) == (429, "1")
        assert client.get("/readyz").status_code == 200
        network.go.set()
        assert {each.result().status_code for each in asked} == {200}
        assert client.post("/v1/predict", content=content).status_code == 200

    network.go.clear()
    with (
        open_client([model], max_concurrency=2, max_per_client=2) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        asked = [threads.submit(client.post, "/v1/predict", content=content) for _ in range(2)]
        wait_until(lambda: "mobilenext_predictions_inside 2.0" in client.get("/metrics").text)
        full = client.post("/v1/predict", content=content)
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        network.go.set()
        assert {each.result().status_code for each in asked} == {200}
        assert client.get("/readyz").status_code == 200


def test_no_answer_in_time_is_504(open_client: Opener, slow: tuple[Any, Any], digits: list[Path]) -> None:
    model, network = slow
    with open_client([model], timeout_s=0.2) as client:
        answer = client.post("/v1/predict", content=digits[0].read_bytes())
        assert (answer.status_code, answer.headers["retry-after"]) == (504, "2")
        assert "0.2 s" in answer.json()["detail"]
        network.go.set()
        assert client.post("/v1/predict", content=digits[0].read_bytes()).status_code == 200


def test_a_failing_network_is_500_without_a_word_of_it(
    open_client: Opener, slow: tuple[Any, Any], digits: list[Path]
) -> None:
    from dataclasses import replace

    class Broken:
        def predict(self, _: Any) -> Any:
            raise RuntimeError("secret /path/of/the/server")

    with open_client([replace(slow[0], networks=[Broken()])]) as client:
        answer = client.post("/v1/predict", content=digits[0].read_bytes())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "values",
    [
        {"max_body_bytes": 0}, {"max_pixels": 10**9}, {"timeout_s": 0}, {"timeout_s": float("nan")}, {"max_batch": 0},
        {"formats": ("EPS",)}, {"formats": ()},
        {"max_concurrency": -1}, {"max_per_client": 0}, {"max_wait_ms": -1}, {"max_batch": 1.5},
    ],
)  # fmt: skip
def test_impossible_limits(values: dict[str, Any]) -> None:
    from mobilenext.errors import UsageError
    from mobilenext.serving.limits import Limits

    with pytest.raises(UsageError, match=next(iter(values))):
        Limits(**values)


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true")
