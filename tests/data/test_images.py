from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from mobilenext.data import find_images, read_image
from mobilenext.data.images import FORMATS, MAX_PIXELS, available_formats, decode_image
from mobilenext.data.listing import list_folder
from mobilenext.errors import DataError, ImageError, UsageError

COLORS = np.random.default_rng(7).integers(0, 256, (5, 8, 3), dtype=np.uint8)  # [H, W, 3]
GREY = COLORS[..., 0]  # [H, W]


def pixels(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]"""
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def png(header: tuple[int, ...], data: bytes) -> bytes:
    """A PNG from the fields of its IHDR and its uncompressed rows, for what Pillow would not write."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


# --- what becomes of pixels


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_colours_come_back_unchanged(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(COLORS).save(tmp_path / f"a.{suffix}", lossless=True)
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), COLORS)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.stack([GREY] * 3, axis=-1))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY).point(lambda value: 255 * (value > 127), "1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[..., 1], np.where(GREY > 127, 255, 0))


def test_palette_gives_its_colours_and_its_transparency_is_dropped(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    palette.putpalette([255, 0, 0, 0, 200, 0, 9, 8, 7])
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "one.png", transparency=1)
    palette.save(tmp_path / "each.png", transparency=bytes([0, 128, 255]))  # the kind that Pillow warns of
    for name in ("plain", "one", "each"):
        assert pixels(tmp_path / f"{name}.png").tolist() == [[[255, 0, 0], [0, 200, 0], [9, 8, 7]]]


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 1), (10, 20, 30, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 1), (40, 0)).save(tmp_path / "la.png")
    assert pixels(tmp_path / "rgba.png").tolist() == [[[10, 20, 30]] * 2]
    assert pixels(tmp_path / "la.png").tolist() == [[[40, 40, 40]] * 2]


def test_cmyk_jpeg_has_the_colours_of_pillow(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)  # no cyan: red
    red, green, blue = pixels(tmp_path / "a.jpg")[8, 8].tolist()
    assert red > 250
    assert max(green, blue) < 5
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
        assert read_image(tmp_path / "a.jpg").tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 0x1234, 0x80FF, 0xFFFF]], dtype=np.uint16)
    if suffix == "pgm":  # which older Pillow does not write
        (tmp_path / "a.pgm").write_bytes(b"P5 6 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}")[0, :, 2].tolist() == [0, 0, 1, 0x12, 0x80, 0xFF]


def tiff(bits: int, data: bytes, *, big_endian: bool = False, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A TIFF of one row and one grey channel."""
    width = len(data) * 8 // bits
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(data)}
    tags[339] = sample_format
    order = ">" if big_endian else "<"
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    body = struct.pack(order + "H", len(tags))
    for tag, value in tags.items():
        body += struct.pack(order + "HHI", tag, 4, 1) + struct.pack(order + "I", value)
    return (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8) + body + b"\0" * 4 + data


def test_big_endian_16_bit_tiff_keeps_its_high_byte(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(16, bytes([0x12, 0x34, 0xFF, 0x00]), big_endian=True))
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0x12, 0xFF]


def test_12_bit_tiff_keeps_its_8_highest_bits(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(12, bytes([0x12, 0x3F, 0xFF])))
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0x12, 0xFF]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (tiff(32, struct.pack("<2I", 1, 70000)), "32-bit integers"),
        (tiff(16, struct.pack("<2h", -1, 1), sample_format=2), "16-bit integers, signed"),
        (tiff(32, struct.pack("<2f", 0.5, 1), sample_format=3), "floating point"),
    ],
)
def test_numbers_without_a_range_are_refused(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match=named) as caught:
        read_image(tmp_path / "a.tif")
    assert str(tmp_path / "a.tif") in str(caught.value)
    assert "convert the file" in str(caught.value)


def test_lab_is_refused(tmp_path: Path) -> None:
    Image.new("LAB", (3, 3)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"CIE L\*a\*b\*"):
        read_image(tmp_path / "a.tif")


def test_an_animation_stands_for_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for suffix in ("gif", "png", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert pixels(tmp_path / f"a.{suffix}")[2, 2].tolist() == [255, 0, 0]


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.JPEG", format="PNG")
    np.testing.assert_array_equal(pixels(tmp_path / "a.JPEG"), COLORS)


def test_the_file_is_closed_and_the_image_independent(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    image = read_image(str(tmp_path / "a.png"))
    (tmp_path / "a.png").unlink()
    assert type(image) is Image.Image
    assert image.resize((2, 2)).size == (2, 2)


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_orientation_is_applied_only_on_request(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLORS).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(pixels(path), COLORS)
    upright = read_image(path, apply_orientation=True)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    assert upright.size == ((5, 8) if orientation >= 5 else (8, 5))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(expected))


def test_a_quarter_turn_goes_the_right_way(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top is the image's right: turn clockwise
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(read_image(tmp_path / "a.png", apply_orientation=True))
    np.testing.assert_array_equal(upright, np.rot90(COLORS, k=-1))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_broken_exif_is_upright(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", apply_orientation=True).tobytes() == read_image(tmp_path / "a.jpg").tobytes()


def test_an_undefined_orientation_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png", apply_orientation=True)), COLORS)


@pytest.mark.parametrize("apply_orientation", [False, True])
def test_tiff_is_turned_by_pillow_itself_and_only_once(tmp_path: Path, apply_orientation: bool) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    image = read_image(tmp_path / "a.tif", apply_orientation=apply_orientation)
    np.testing.assert_array_equal(np.asarray(image), np.rot90(COLORS, k=-1))


# --- what is refused


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_truncated_pixels_are_an_error(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    if suffix == "tif":  # its directory stands before the pixels or after them; here only the pixels may be cut
        path.write_bytes(tiff(16, b"\0" * 200)[:-100])
    assert "fetch it again or take it off the list" in refused(path)


def test_filling_truncated_images_must_be_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UsageError, match="set it to False"):
        read_image(tmp_path / "a.png")


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<!DOCTYPE html><title>404</title>")
    message = refused(tmp_path / "a.jpg")
    assert 'it begins with "<!DOCTYPE ht" and is an HTML or XML page' in message
    assert "JPEG" in message


def test_missing_empty_folder_and_pipe(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.jpg")
    assert "null" in refused(tmp_path / "a\0b.jpg")
    (tmp_path / "empty.jpg").touch()
    assert "empty (0 bytes)" in refused(tmp_path / "empty.jpg")
    assert "this is a folder" in refused(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "a device or a pipe" in refused(tmp_path / "pipe.jpg")


def test_a_postscript_file_is_not_even_opened(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.jpg", format="EPS")
    assert "a.jpg: vector graphics is not read here; render it to PNG" in refused(tmp_path / "a.jpg")
    assert "EPS" not in FORMATS


@pytest.mark.parametrize(
    ("width", "height", "found"),
    [
        (60000, 60000, "3600000000"),  # refused by Pillow
        (10000, 10000, "100,000,000"),  # a warning in Pillow
        (MAX_PIXELS + 1, 1, "89,478,486"),
    ],
)
def test_an_oversize_claim_is_refused_before_decoding(tmp_path: Path, width: int, height: int, found: str) -> None:
    (tmp_path / "a.png").write_bytes(png((width, height, 8, 2, 0, 0, 0), b"\0\0\0\0"))
    message = refused(tmp_path / "a.png")
    assert found in message
    assert "89,478,485" in message


def test_an_icon_that_holds_a_larger_image_than_it_announces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = png((40, 30, 8, 0, 0, 0, 0), b"\0" * 41 * 30)
    directory = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    (tmp_path / "a.ico").write_bytes(directory + inner)
    monkeypatch.setattr("mobilenext.data.images.MAX_PIXELS", 1000)
    assert "40 x 30 = 1,200 pixels" in refused(tmp_path / "a.ico")


def test_whatever_pillow_raises_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    for error in (MemoryError(), struct.error("bad"), IndexError("x"), RecursionError(), SyntaxError("broken\nPNG")):

        def fail(*_args: object, error: Exception = error, **_kwargs: object) -> None:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        message = refused(tmp_path / "a.png")
        assert type(error).__name__ in message
        assert "\n" not in message


def test_any_cut_and_any_damage_is_an_image_or_an_image_error(tmp_path: Path) -> None:
    """Warnings are errors in these tests, so this also shows that none of Pillow's gets out."""
    random = np.random.default_rng(3)
    outcomes = {"read": 0, "refused": 0}
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "jp2", "ico"):
        whole_path = tmp_path / f"whole.{suffix}"
        Image.fromarray(COLORS).resize((32, 32)).save(whole_path)
        whole = whole_path.read_bytes()
        for number in range(40):
            damaged = bytearray(whole if number % 2 else whole[: random.integers(1, len(whole) + 1)])
            for _ in range(random.integers(0, 4)):
                damaged[random.integers(len(damaged))] = random.integers(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                outcomes["read"] += read_image(tmp_path / "damaged", apply_orientation=True).mode == "RGB"
            except ImageError:
                outcomes["refused"] += 1
    assert sum(outcomes.values()) == 9 * 40
    assert min(outcomes.values()) > 20


def test_no_warning_of_pillow_escapes(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"acTL")
    body = b"acTL" + bytes(8)  # no frames: "Invalid APNG, will use default PNG image if possible"
    (tmp_path / "a.png").write_bytes(content[:at] + body + struct.pack(">I", zlib.crc32(body)) + content[at + 16 :])
    with pytest.warns(UserWarning, match="Invalid APNG"), Image.open(tmp_path / "a.png"):
        pass
    assert pixels(tmp_path / "a.png").shape == (4, 4, 3)
    assert not recwarn.list


@pytest.mark.skipif("AVIF" not in available_formats(), reason="this build of Pillow does not read AVIF")
def test_avif(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "a.avif")
    assert pixels(tmp_path / "a.avif")[8, 8, 0] > 240


# --- listing


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_listed_recursively_in_order_and_files_kept_as_given(tmp_path: Path) -> None:
    tree(tmp_path, "b.PNG", "a/z.jpeg", "a/10.webp", "c.Tif", "notes.txt", "a/._z.jpeg", ".cache/d.jpg", "odd.data")
    found = find_images([tmp_path / "odd.data", tmp_path, str(tmp_path / "c.Tif")])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "odd.data", "a/10.webp", "a/z.jpeg", "b.PNG", "c.Tif", "c.Tif",
    ]  # fmt: skip
    listing = list_folder(tmp_path)
    assert [path.name for path in listing.others] == ["notes.txt", "odd.data"]
    assert [path.name for path in listing.leftovers] == [".cache", "._z.jpeg"]


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "empty/readme.txt")
    with pytest.raises(DataError, match=r"empty: no images in this folder; looked for \.apng, \.avif"):
        find_images([tmp_path / "empty"])
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        find_images([tmp_path / "nowhere"])


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    tree(tmp_path, "one/a.jpg", "two/b.jpg")
    try:
        (tmp_path / "one/to_two").symlink_to(tmp_path / "two", target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")
    (tmp_path / "two/to_one").symlink_to(tmp_path / "one", target_is_directory=True)
    found = find_images([tmp_path / "one"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["one/a.jpg", "one/to_two/b.jpg"]


def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.jpg")

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)  # and not chmod, which does not stop root
    with pytest.raises(DataError, match=r"this folder cannot be listed: .*Permission denied"):
        list_folder(tmp_path)


# --- a folder of odd images, if there is one

READ_ONE = """
import sys
from mobilenext.data import read_image
from mobilenext.errors import ImageError
try:
    assert read_image(sys.argv[1]).mode == "RGB"
    read_image(sys.argv[1], apply_orientation=True)
except ImageError as error:
    assert sys.argv[1] in str(error)
try:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # MiB where ru_maxrss counts KiB, as on Linux
except ImportError:
    print(0)
"""


@pytest.mark.skipif("MOBILENEXT_ODD_IMAGES" not in os.environ, reason="MOBILENEXT_ODD_IMAGES names no folder")
def test_no_odd_image_crashes_hangs_or_fills_the_memory() -> None:
    files = [path for path in Path(os.environ["MOBILENEXT_ODD_IMAGES"]).rglob("*") if path.is_file()]
    assert files
    for path in files:
        command = [sys.executable, "-W", "error", "-c", READ_ONE, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{path}: {done.stderr}"
        assert sys.platform != "linux" or int(done.stdout) < 1024, f"{path}: {done.stdout} MiB"


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp"])
def test_content_in_memory_is_decoded_by_the_same_rules(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.linear_gradient("L").convert("RGB").save(path)
    assert decode_image(path.read_bytes()).tobytes() == read_image(path).tobytes()
    with pytest.raises(ImageError, match=r"^photo: "):
        decode_image(path.read_bytes()[:20], "photo")


def test_content_in_memory_is_turned_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert decode_image(path.read_bytes(), apply_orientation=True).size == (20, 30)
    assert decode_image(path.read_bytes()).size == (30, 20)


def test_content_in_memory_may_have_a_lower_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (30, 20)).save(path)
    assert decode_image(path.read_bytes(), max_pixels=600).size == (30, 20)
    with pytest.raises(ImageError, match="600 pixels; expected 1 to 599"):
        decode_image(path.read_bytes(), max_pixels=599)
    with pytest.raises(ImageError, match="0 bytes"):
        decode_image(b"")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UsageError, match="LOAD_TRUNCATED_IMAGES"):
        decode_image(path.read_bytes())
