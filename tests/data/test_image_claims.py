from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hostile_images import (
    HOSTILE,
    animated,
    bmp,
    chunk,
    gif,
    ico,
    jpeg,
    png,
    progressive,
    saved,
    segment,
    text,
    whole_png,
)
from mobilenext.data.image_claims import container, read_claims
from mobilenext.data.image_headers import Claims
from mobilenext.data.image_limits import ImageLimits
from mobilenext.data.images import FORMATS, available_formats, decode_image, read_image
from mobilenext.errors import ImageError, UsageError

LIMITS = ImageLimits()

# --- what each image costs, measured by the system: the peak of the process that asks, and of the one that decodes

MEASURE = """
import json, os, sys, threading, time
from hostile_images import HOSTILE
from mobilenext.data import image_guard
from mobilenext.data.images import read_image
from mobilenext.errors import ImageError

def peak(process):
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

def children():
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as file:
            yield from file.read().split()

peaks = []

def watch():
    while True:
        for process in list(children()):
            try:
                peaks.append(peak(process))
            except (OSError, StopIteration):
                pass
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
for name in json.loads(sys.argv[2]):
    with open(sys.argv[1], "wb") as file:
        file.write(HOSTILE[name]())
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, began = peak("self"), time.process_time() + sum(os.times()[2:4])
    peaks.clear()
    try:
        size, problem = read_image(sys.argv[1], apply_orientation=True).size, None
    except ImageError as error:
        size, problem = None, str(error)
    grown = peak("self") - before
    image_guard._end_all()
    seconds = time.process_time() + sum(os.times()[2:4]) - began
    print(json.dumps([name, grown, max(peaks, default=0), size, problem, seconds]), flush=True)
"""

LONG = {
    name
    for name in HOSTILE
    if any(word in name for word in ("refining", "arithmetic", "padding", "1,000,000 strips", "20,000,000", "8,000 x"))
    or name
    in ("ppm with a comment of 10 MB", "gif with 10 MB between blocks", "pbm of text", "jpeg with 10 MB of junk")
}
DECODED = {  # what is good is read, whatever stands beside its pixels
    "jpeg with 60 MB of comments", "jpeg with restart markers only", "png of 100 texts of 900,000 characters",
    "png with a profile of 100 MB", "png with gamma of 60 MB", "webp of 5,000 frames", "ppm with 10 MB of spaces",
    "tiff of a tile of 5,000 x 5,000", "tiff whose directory refers to itself",
}  # fmt: skip


def measured(folder: Path, names: list[str]) -> dict[str, list[Any]]:
    if sys.platform != "linux":
        pytest.skip("the peak of a process is read from /proc")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{MEASURE}"
    command = [sys.executable, "-c", code, str(folder / "image"), json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return {row[0]: row[1:] for row in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    return measured(tmp_path_factory.mktemp("hostile"), [name for name in HOSTILE if name not in LONG])


def check(name: str, grown: float, other: float, size: list[int] | None, problem: str | None, seconds: float) -> None:
    pixels = size[0] * size[1] if size else 0
    assert problem is None or "image: " in problem
    # A refused image may have been given what its pixels are allowed; none here has more than 64 million of them.
    allowed = 128 + 8 * (pixels if size else 64_000_000 if other > 128 else 0) / 2**20
    assert grown <= allowed, (name, problem)
    assert other <= allowed + 16, (name, problem)
    assert (problem is None) == (name in DECODED) or name in LONG, problem


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in LONG])
def test_a_hostile_image_is_bounded(costs: dict[str, list[Any]], name: str) -> None:
    check(name, *costs[name])


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LONG))
def test_a_hostile_image_that_takes_long_is_bounded(tmp_path: Path, name: str) -> None:
    grown, other, size, problem, seconds = measured(tmp_path, [name])[name]
    check(name, grown, other, size, problem, seconds)
    assert seconds < 20


# --- claims


def claims_of(content: bytes, limits: ImageLimits = LIMITS) -> Claims:
    return read_claims("image", io.BytesIO(content), limits)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in available_formats()])
def test_every_format_is_known_by_its_first_bytes(kind: str) -> None:
    content = saved(kind)
    assert container(content[:32]) == kind
    assert claims_of(content).pixels in (256, 0)


@pytest.mark.parametrize(
    "content",
    [
        saved("JPEG"), saved("JPEG", "L"), saved("JPEG", "CMYK"), saved("JPEG", progressive=True), saved("PNG"),
        saved("PNG", "P"), saved("PNG", "I;16"), saved("BMP"), saved("BMP", "1"), saved("PPM"), saved("PPM", "L"),
        saved("PPM", "1"), b"P5 # made by hand\n 2 2\n65535 12345678", animated("PNG", 3), b"<html>", b"\0", b"P",
    ],
)  # fmt: skip
def test_what_is_bounded_by_its_claims_needs_no_process(content: bytes) -> None:
    assert claims_of(content).bounded(LIMITS)


@pytest.mark.parametrize(
    "content",
    [
        saved("GIF"), saved("TIFF"), saved("WEBP"), saved("ICO"), saved("JPEG2000"), bmp(8, 8), b"P2 2 2 9 1 2 3 4",
        b"P6 2 2 254 123456789012", b"P6" + b" " * 5000 + b"1 1 255 123", progressive(3, 16, 16, frame=0xCA),
        jpeg(before=[b"\xff"]), jpeg(before=[segment(0xFE, b""), b"\0"]), saved("JPEG")[:40],
        whole_png(before=[png(9, 9)[8:33]]),
        saved("JPEG", size=(6000, 6000)), bmp(8, 8, 24, 0).replace(b"\x28\0\0\0", b"\xff\xff\0\0", 1),
    ],
)  # fmt: skip
def test_what_is_not_is_left_to_a_process(content: bytes) -> None:
    assert not claims_of(content).bounded(LIMITS)


@pytest.mark.parametrize(
    ("content", "claim"),
    [
        (progressive(3000, 7000, 7000), "3,001 scans of 7,000 x 7,000 pixels"),
        (progressive(300, 9000, 9000, components=3), "301 scans of 9,000 x 9,000 pixels"),
        (bmp(49_999_999, 1), "run lengths of 49,999,999 x 1 pixels"),
        (ico([png(13300, 13300)]), "an image of 13300 x 13300"),
        (png(1, 60_000_000), "1 x 60,000,000 pixels"),
        (HOSTILE["jpeg 2000 of 65,535 tiles"](), "65,535 tiles and 3 components"),
    ],
)
def test_a_claim_beyond_the_limits_is_named(content: bytes, claim: str) -> None:
    with pytest.raises(ImageError, match=f"^photo: .*{claim}"):
        decode_image(content, "photo")


def test_scans_that_cost_little_are_decoded() -> None:
    """Their number alone is no reason: a picture of 64 pixels may have hundreds."""
    assert decode_image(progressive(500, 8, 8)).size == (8, 8)


def test_limits_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    content = progressive(300, 3000, 3000)
    assert decode_image(content).size == (3000, 3000)
    with pytest.raises(ImageError, match=r"301 scans .* the limit is 0.2 s"):
        decode_image(content, limits=ImageLimits(seconds=0.2))
    monkeypatch.setenv("MOBILENEXT_IMAGE_SECONDS", "0.2")
    with pytest.raises(ImageError, match=r"301 scans .* the limit is 0.2 s"):
        decode_image(content)
    monkeypatch.setenv("MOBILENEXT_IMAGE_SECONDS", "soon")
    with pytest.raises(UsageError, match="MOBILENEXT_IMAGE_SECONDS is 'soon'; expected a number"):
        decode_image(content)
    monkeypatch.delenv("MOBILENEXT_IMAGE_SECONDS")
    monkeypatch.setenv("MOBILENEXT_IMAGE_MEMORY_MIB", "1")
    with pytest.raises(UsageError, match="from 96 to"):
        decode_image(content)


# --- what is not pixels does not decide

XMP = b'<x tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "chunks",
    [
        [text(3_000_000)],
        [text(3_000_000, b"Comment")],
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))],
        [chunk(b"zTXt", b"Comment\0\x07unknown")],
        [chunk(b"iCCP", b"profile\0\x07unknown")],
        [chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(5_000_000)))],
        [chunk(b"gAMA", b"\0")], [chunk(b"cHRM", b"")], [chunk(b"pHYs", b"")], [chunk(b"sRGB", b"")],
        [text(900_000, b"%d" % number) for number in range(80)],
        [chunk(b"tEXt", b"Comment\0" + bytes(9_000_000))],
        [chunk(b"tEXt", b"k\0v")] * 3000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_is_read_whatever_its_text(tmp_path: Path, chunks: list[bytes], place: str) -> None:
    random = np.random.default_rng(0).integers(0, 256, (16, 49), dtype=np.uint8)
    random[:, 0] = 0  # no filter
    pixels = zlib.compress(random.tobytes())
    (tmp_path / "a.png").write_bytes(png(16, 16, data=pixels, **{place: chunks}))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), random[:, 1:].reshape(16, 16, 3))


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_png_is_turned_by_its_xmp_however_long(size: int) -> None:
    content = png(8, 4, data=zlib.compress(bytes(4 * 25)), before=[text(size, start=XMP)])
    assert decode_image(content).size == (8, 4)
    assert decode_image(content, apply_orientation=True).size == (4, 8)


def test_a_png_is_turned_by_its_exif_beside_much_text() -> None:
    exif = Image.Exif()
    exif[274] = 6
    before = [text(3_000_000, b"Comment"), chunk(b"eXIf", exif.tobytes()[6:])]
    assert decode_image(png(8, 4, data=zlib.compress(bytes(100)), before=before), apply_orientation=True).size == (4, 8)


def test_transparency_and_animation_survive_without_the_text() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 255, 0))]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    content = file.getvalue()
    long_text = text(3_000_000)
    assert decode_image(content[:33] + long_text + content[33:]).getpixel((2, 2)) == (255, 0, 0)


def test_a_wrong_checksum_of_a_text_is_still_damage() -> None:
    broken = text(100)[:-1] + b"\0"
    with pytest.raises(ImageError, match="broken"):
        decode_image(whole_png(before=[broken]))
    with pytest.raises(ImageError):
        decode_image(whole_png(before=[text(3_000_000)[:-1] + b"\0"]))


def exif_with(tag: int, kind: int, count: int, value: int) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", tag, kind, count, value) + bytes(4)


@pytest.mark.parametrize(
    "segments",
    [
        [segment(0xFE, bytes(65000))] * 200,
        [segment(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(60000))] * 100,
        [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60000))] * 100,
        [segment(0xE1, b"Exif\0\0" + bytes(65000))] * 100,
        [segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\0\0\0" + b"\xff" * 100)],
        [segment(0xE1, exif_with(0x011A, 5, 0, 0)), segment(0xE0, b"")],
        [segment(0xE1, exif_with(0x011A, 2, 0xFFFFFFFF, 0))],
        [segment(0xE5, b"")] * 5000,
        [segment(0xE2, b"MPF\0" + b"\xff" * 20)],
        [segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")],
    ],
)
def test_a_jpeg_is_read_whatever_its_segments(segments: list[bytes]) -> None:
    random = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    file = io.BytesIO()
    random.save(file, "JPEG")
    plain = file.getvalue()
    content = plain[:2] + b"".join(segments) + plain[2:]
    assert decode_image(content).tobytes() == decode_image(plain).tobytes()


def test_a_jpeg_is_turned_by_its_exif_beside_many_comments() -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = [segment(0xFE, bytes(65000))] * 200 + [segment(0xE1, exif.tobytes())]
    assert decode_image(jpeg(before=turned, size=(8, 4)), apply_orientation=True).size == (4, 8)


def test_the_adobe_marker_decides_colours_and_stays() -> None:
    content = saved("JPEG", "CMYK")
    many = content[:2] + segment(0xFE, bytes(65000)) * 200 + content[2:]
    assert decode_image(many).tobytes() == decode_image(content).tobytes()


# --- any mutation of a header is an image or an ImageError


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in available_formats()])
def test_mutated_headers(kind: str) -> None:
    mutate(kind, 40)


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in available_formats()])
def test_many_mutated_headers(kind: str) -> None:
    mutate(kind, 1500)


def mutate(kind: str, number: int) -> None:
    random = np.random.default_rng(11)
    whole = gif((16, 16), (16, 16)) if kind == "GIF" else saved(kind)
    values = [0, 1, 0x7F, 0x80, 0xFF]
    for _ in range(number):
        content = bytearray(whole)
        for _ in range(random.integers(1, 5)):
            at, length = random.integers(min(200, len(content))), random.integers(1, 5)
            content[at : at + length] = bytes(random.choice(values, length).tolist())
        with contextlib.suppress(ImageError):
            assert decode_image(bytes(content), apply_orientation=True, max_pixels=4_000_000).mode == "RGB"
