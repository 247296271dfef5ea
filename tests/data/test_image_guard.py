from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile_images import avif_claiming, bmp, gif, saved
from mobilenext.data import image_guard
from mobilenext.data.image_claims import read_claims
from mobilenext.data.image_decoding import FORMATS, Order, available_formats, decode
from mobilenext.data.image_guard import decode_elsewhere
from mobilenext.data.image_limits import ImageLimits
from mobilenext.data.images import decode_image, read_image
from mobilenext.errors import ImageError

SLOW = bmp(20_000_000, 1)  # a few seconds in Pillow's decoder of run lengths
pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of a process are those of POSIX")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    image_guard._end_all()
    yield
    image_guard._end_all()


def photo() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in available_formats()])
@pytest.mark.parametrize("apply_orientation", [False, True])
def test_the_pixels_are_those_that_are_decoded_here(tmp_path: Path, kind: str, apply_orientation: bool) -> None:
    exif = Image.Exif()
    exif[274] = 6
    photo().resize((64, 48)).save(tmp_path / "photo", kind, exif=exif)
    order = Order("photo", apply_orientation)
    with (tmp_path / "photo").open("rb") as file:
        here = decode(order, file, read_claims("photo", file, order.limits))
    for source in (tmp_path / "photo", (tmp_path / "photo").read_bytes()):
        there = decode_elsewhere(order, source)
        assert (there.mode, there.size) == ("RGB", here.size)
        assert there.tobytes() == here.tobytes()


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (3, 90_001), (1024, 777)])
def test_images_of_any_shape_come_whole(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = saved_pixels(pixels)
    np.testing.assert_array_equal(np.asarray(decode_elsewhere(Order("x"), content)), pixels)


def saved_pixels(pixels: np.ndarray) -> bytes:
    return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "GIF"])
def test_one_process_decodes_many(kind: str) -> None:
    content = saved(kind)
    for _ in range(5):
        assert decode_image(content).size == (16, 16)
        with pytest.raises(ImageError, match=r"^image: "):
            decode_image(content[:30])
    assert len(image_guard._idle) == 1


def test_several_threads_have_a_process_each(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(saved("GIF"))
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(read_image, [tmp_path / "a.gif"] * 20))
    assert {image.size for image in images} == {(16, 16)}
    assert 1 <= len(image_guard._idle) <= 4


def test_time_on_a_core_is_limited_and_the_next_image_is_decoded() -> None:
    limits = ImageLimits(seconds=0.3)
    with pytest.raises(ImageError, match=r"photo: takes more than 0\.3 s to decode"):
        decode_elsewhere(
            Order("photo", limits=limits),
            gif((16, 16), (16, 16)).replace(b",", b"\1" * 9_000_000 + b",", 1),
            wait_s=300,
        )
    assert decode_image(saved("GIF")).size == (16, 16)


def test_time_by_the_clock_is_limited() -> None:
    with pytest.raises(ImageError, match="photo: not decoded in time"):
        decode_elsewhere(Order("photo"), SLOW, wait_s=0.1)
    assert not image_guard._idle  # it was killed
    assert decode_image(saved("GIF")).size == (16, 16)


@pytest.mark.skipif("AVIF" not in available_formats(), reason="this build of Pillow does not read AVIF")
def test_memory_is_limited() -> None:
    with pytest.raises(ImageError, match="photo: MemoryError"):
        decode_elsewhere(Order("photo", limits=ImageLimits(memory_mib=96)), avif_claiming(7000, 7000))


def test_content_counts_as_memory() -> None:
    with pytest.raises(ImageError, match="photo: MemoryError"):
        decode_elsewhere(Order("photo"), saved("WEBP") + bytes(100_000_000))


def test_a_process_that_was_killed_meanwhile_is_replaced() -> None:
    assert decode_image(saved("GIF")).size == (16, 16)
    (decoder,) = image_guard._idle
    os.kill(decoder.process.pid, signal.SIGKILL)
    assert decode_image(saved("GIF")).size == (16, 16)


def test_an_image_whose_process_is_killed_again_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = image_guard._take

    def take() -> image_guard._Decoder:
        decoder = original()
        decoder.process.kill()
        return decoder

    monkeypatch.setattr(image_guard, "_take", take)
    with pytest.raises(ImageError, match="photo: the system killed the process that decoded it"):
        decode_elsewhere(Order("photo"), saved("GIF"))


def test_signals_to_all_are_not_for_it() -> None:
    """Ctrl-C and SIGTERM are for the process that asks, which may want to finish its work."""
    assert decode_image(saved("GIF")).size == (16, 16)
    (decoder,) = image_guard._idle
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(decoder.process.pid, number)
    assert decode_image(saved("GIF")).size == (16, 16)
    assert image_guard._idle == [decoder]


def test_without_a_process_images_are_decoded_here_and_it_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_guard, "_unavailable", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with caplog.at_level(logging.WARNING):
        assert decode_image(saved("GIF")).size == (16, 16)
        assert decode_image(saved("WEBP")).size == (16, 16)
    assert [record.getMessage() for record in caplog.records if "no process can be started" in record.getMessage()]
    assert len(caplog.records) == 1


SCRIPT = """
import os, sys
from mobilenext.data import image_guard, read_image
print(read_image(sys.argv[1]).size)
print(image_guard._idle[0].process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, 0])
def test_it_ends_with_its_parent_and_needs_no_writable_folder(tmp_path: Path, number: int) -> None:
    (tmp_path / "a.gif").write_bytes(saved("GIF"))
    environment = {**os.environ, "TMPDIR": "/nowhere", "HOME": "/nowhere", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "a.gif")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "(16, 16)\n"
    child = int(process.stdout.readline())
    if number:
        process.send_signal(number)
    _, problem = process.communicate()
    assert not problem
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and Path(f"/proc/{child}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_fork_does_not_share_it() -> None:
    assert decode_image(saved("GIF")).size == (16, 16)
    process = os.fork()
    if not process:
        try:
            os._exit(0 if not image_guard._idle and decode_image(saved("GIF")).size == (16, 16) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(process, 0)[1] == 0
    assert decode_image(saved("GIF")).size == (16, 16)


def test_memory_of_two_gibibytes_is_enough(tmp_path: Path) -> None:
    """Of address space, as `ulimit -v` gives it."""
    photo().save(tmp_path / "a.webp")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "from mobilenext.data import read_image; print(read_image(sys.argv[1]).size)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "a.webp")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "(160, 120)\n"
