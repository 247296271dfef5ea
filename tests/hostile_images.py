"""Image files that claim more than they hold, made byte by byte: what a decoder has to bound, for each format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from PIL import Image


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (16, 16), **options: Any) -> bytes:
    """A plain image as Pillow writes it."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


# --- PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deflated(size: int) -> bytes:
    """So many zero bytes, deflated."""
    packer, block = zlib.compressobj(9), bytes(2**20)
    parts = [packer.compress(block[: min(2**20, size - at)]) for at in range(0, size, 2**20)]
    return b"".join(parts) + packer.flush()


def png(
    width: int, height: int, *, depth: int = 8, color: int = 2, interlaced: int = 0, data: bytes = b"",
    before: Iterable[bytes] = (), after: Iterable[bytes] = (),
) -> bytes:  # fmt: skip
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    parts = (chunk(b"IHDR", header), *before, chunk(b"IDAT", data), *after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def whole_png(side: int = 16, **options: Any) -> bytes:
    return png(side, side, data=zlib.compress(bytes(side * (1 + 3 * side))), **options)


def text(size: int, keyword: bytes = b"XML:com.adobe.xmp", start: bytes = b"") -> bytes:
    """An international text of so many characters, deflated."""
    return chunk(b"iTXt", keyword + b"\0\1\0\0\0" + zlib.compress(start + b" " * size))


# --- JPEG


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(*, before: Iterable[bytes] = (), mode: str = "RGB", size: tuple[int, int] = (16, 16), **options: Any) -> bytes:
    """A whole JPEG with segments after its first marker."""
    content = saved("JPEG", mode, size, **options)
    return content[:2] + b"".join(before) + content[2:]


def progressive(
    scans: int, width: int, height: int, *, components: int = 1, refining: bool = False, frame: int = 0xC2
) -> bytes:
    """A JPEG whose scans hold (nearly) no data."""
    source, tables, at = saved("JPEG", "L", progressive=True), b"", 2
    while source[at + 1] != 0xD9:
        marker, length = source[at + 1], struct.unpack(">H", source[at + 2 : at + 4])[0]
        if marker in (0xDB, 0xC4):
            tables += source[at : at + 2 + length]
        at += 2 + length
        while marker == 0xDA and not (source[at] == 0xFF and source[at + 1]):
            at += 1
    parts = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    head = segment(frame, struct.pack(">BHHB", 8, height, width, components) + parts)

    def scan(first: int, last: int, bits: int) -> bytes:
        return segment(0xDA, bytes([1, 1, 0, first, last, bits])) + b"\0"

    body = scan(1, 63, 0x10) if refining else scan(1, 63, 0)
    return (
        b"\xff\xd8" + tables + head + scan(0, 0, 1) + (scan(1, 63, 1) if refining else b"") + body * scans + b"\xff\xd9"
    )


# --- TIFF


def tiff(tags: Mapping[int, tuple[int, list[int]]], data: bytes = b"", *, big: bool = False) -> bytes:
    """A directory with `tags` (type 3: short, 4: long), then `data`, from which offsets (273, 324) count."""
    count, entry = len(tags), 20 if big else 12
    start = (16 + 8 + entry * count + 8) if big else (8 + 2 + entry * count + 4)
    sizes = {3: ("H", 2), 4: ("I", 4)}
    room = 8 if big else 4
    beyond = sum(sizes[kind][1] * len(values) for kind, values in tags.values() if sizes[kind][1] * len(values) > room)
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        if tag in (273, 324):
            values = [start + beyond + value for value in values]
        packed = struct.pack(f"<{len(values)}{sizes[kind][0]}", *values)
        entries += struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values))
        if len(packed) <= room:
            entries += packed.ljust(room, b"\0")
        else:
            entries += struct.pack("<Q" if big else "<I", start + len(extra))
            extra += packed
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, count) if big else struct.pack("<2sHIH", b"II", 42, 8, count)
    return head + entries + bytes(8 if big else 4) + extra + data


def tiff_tags(
    width: int, height: int, samples: int = 3, compression: int = 8, **more: tuple[int, list[int]]
) -> dict[int, Any]:
    return {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8] * samples), 259: (3, [compression]), 262: (3, [2]),
        277: (3, [samples]), 284: (3, [1]),
    }  # fmt: skip


def tiled(side: int, tile: int, *, big: bool = False, samples: int = 3, data: bytes = b"") -> bytes:
    tags = tiff_tags(side, side, samples)
    tags |= {322: (4, [tile]), 323: (4, [tile]), 324: (4, [0]), 325: (4, [len(data)])}
    if samples == 4:
        tags[338] = (3, [2])
    return tiff(tags, data, big=big)


def stripped(width: int, height: int, strips: int, compression: int = 1) -> bytes:
    tags = tiff_tags(width, height, 3, compression)
    rows = max(1, height // strips)
    tags |= {273: (4, [0] * strips), 278: (4, [rows]), 279: (4, [3 * width * rows] * strips)}
    return tiff(tags, bytes(3 * width * rows))


# --- the others


def gif(screen: tuple[int, int], frame: tuple[int, int], data: bytes = b"\x04\x01\x00\x00") -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02" + data + b"\0;"


def dib(width: int, height: int, bits: int, coding: int, pixels: bytes) -> bytes:
    """A bitmap without the file's header, as an icon holds it; a grey palette for 8 bits and less."""
    colors = 1 << bits if bits <= 8 else 0
    palette = b"".join(bytes([i * 255 // max(1, colors - 1)] * 3 + [0]) for i in range(colors))
    return (
        struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, coding, len(pixels), 0, 0, colors, 0) + palette + pixels
    )


def bmp(width: int, height: int, bits: int = 8, coding: int = 1, pixels: bytes = b"\x01\x01\0\0") -> bytes:
    body = dib(width, height, bits, coding, pixels)
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 14 + len(body) - len(pixels)) + body


def ico(images: Iterable[bytes], side: int = 16) -> bytes:
    images = list(images)
    at, entries = 6 + 16 * len(images), b""
    for image in images:
        entries += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + entries + b"".join(images)


def jpeg2000(width: int, height: int, tile: tuple[int, int], components: int) -> bytes:
    """A codestream of a header only."""
    size = struct.pack(">H8IH", 0, width, height, 0, 0, *tile, 0, 0, components) + bytes([7, 1, 1]) * components
    coding = struct.pack(">BBHBBBBBB", 0, 0, 1, 0, 5, 4, 4, 0, 0)
    quantization = bytes([0x40]) + bytes([0x48] * 16)
    tile_part = struct.pack(">HIBB", 0, 14, 0, 1)
    return (
        b"\xff\x4f" + segment(0x51, size) + segment(0x52, coding) + segment(0x5C, quantization)
        + segment(0x90, tile_part) + b"\xff\x93\xff\xd9"
    )  # fmt: skip


def avif_claiming(width: int, height: int) -> bytes:
    """An AVIF that says it is of another size than its picture is."""
    content = saved("AVIF", size=(64, 64))
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]


def animated(kind: str, frames: int, side: int = 16) -> bytes:
    pictures = [Image.new("RGB", (side, side), (number % 256, number // 256, 0)) for number in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:])
    return file.getvalue()


# Each is refused, or decoded in bounded memory and time. Made when they are called: some take a moment.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg of 3,000 empty scans": lambda: progressive(3000, 7000, 7000),
    "jpeg of 200,000 scans of a small picture": lambda: progressive(200_000, 64, 64),
    "jpeg of 400 refining scans": lambda: progressive(400, 5000, 5000, refining=True),
    "jpeg of arithmetic scans": lambda: progressive(100, 7000, 7000, frame=0xCA),
    "jpeg of 50 megapixels in cmyk": lambda: progressive(2, 7000, 7000, components=4),
    "jpeg with 2,000,000 empty segments": lambda: jpeg(before=[segment(0xE5, b"")] * 2_000_000),
    "jpeg with 60 MB of comments": lambda: jpeg(before=[segment(0xFE, bytes(65000))] * 1000),
    "jpeg with 10 MB of padding": lambda: jpeg(before=[b"\xff" * 10_000_000]),
    "jpeg with 10 MB of junk": lambda: jpeg(before=[segment(0xFE, b""), b"\x55" * 10_000_000]),
    "jpeg with restart markers only": lambda: jpeg()[:-2] + b"\xff\xd0\xff\xd1" * 2_000_000 + b"\xff\xd9",
    "jpeg of 12 bits": lambda: progressive(1, 4000, 4000).replace(b"\x08\x0f\xa0\x0f\xa0", b"\x0c\x0f\xa0\x0f\xa0"),
    "png of 1 x 24,000,000, interlaced": lambda: png(1, 24_000_000, interlaced=1, data=deflated(110_000_000)),
    "png of 1 x 80,000,000, interlaced": lambda: png(1, 80_000_000, depth=16, color=6, interlaced=1, data=b""),
    "png of 500,000 chunks": lambda: whole_png(before=[chunk(b"vpAg", b"")] * 500_000),
    "png of 300,000 chunks of pixels": lambda: whole_png(after=[chunk(b"IDAT", b"")] * 300_000),
    "png of two headers": lambda: whole_png(before=[png(9000, 9000)[8:33]]),
    "png of 100 texts of 900,000 characters": lambda: whole_png(before=[text(900_000, b"%d" % n) for n in range(100)]),
    "png with a profile of 100 MB": lambda: whole_png(before=[chunk(b"iCCP", b"p\0\0" + deflated(100_000_000))]),
    "png with a palette of 60 MB": lambda: whole_png(before=[chunk(b"PLTE", bytes(60_000_000))]),
    "png with gamma of 60 MB": lambda: whole_png(before=[chunk(b"gAMA", bytes(60_000_000))]),
    "gif whose frame is larger than the screen": lambda: gif((1, 1), (65535, 65535)),
    "gif of 1 x 65,535": lambda: gif((1, 65535), (1, 65535)),
    "gif of 9,000 x 9,000": lambda: gif((9000, 9000), (9000, 9000)),
    "gif with 10 MB between blocks": lambda: gif((16, 16), (16, 16)).replace(b",", b"\x01" * 10_000_000 + b",", 1),
    "webp of 7,000 x 7,000": lambda: saved("WEBP", "RGBA", (7000, 7000), lossless=True, method=0),
    "webp of 5,000 frames": lambda: animated("WEBP", 5000),
    "tiff of one large tile": lambda: tiled(16, 12288, samples=4, data=deflated(4 * 12288**2)),
    "bigtiff of one large tile": lambda: tiled(16, 23000, samples=4, big=True, data=b"\0"),
    "tiff of a tile of 5,000 x 5,000": lambda: tiled(16, 5000, data=deflated(3 * 5000**2)),
    "tiff of 1,000,000 strips": lambda: stripped(16, 1_000_000, 1_000_000),
    "tiff of 1,000,000 deflated strips": lambda: stripped(16, 1_000_000, 1_000_000, 8),
    "tiff whose directory refers to itself": lambda: stripped(16, 16, 1)[:-4] + struct.pack("<I", 8),
    "bmp of run lengths, 49,999,999 x 1": lambda: bmp(49_999_999, 1),
    "bmp of run lengths, 20,000,000 x 1": lambda: bmp(20_000_000, 1),
    "bmp of steps": lambda: bmp(4000, 4000, pixels=b"\0\2\0\1" * 1000),
    "bmp with 4-bit run lengths": lambda: bmp(4000, 4000, 4, 2, b"\xff\x12" * 70_000),
    "bmp of 9,000 x 9,000 without pixels": lambda: bmp(9000, 9000, 24, 0, b""),
    "ico with a png of 177 megapixels": lambda: ico([png(13300, 13300, color=6, data=b"")]),
    "ico with a bitmap of 20,000 x 20,000": lambda: ico([dib(20000, 40000, 32, 0, bytes(64))]),
    "ico of 65,535 entries": lambda: ico([whole_png()])[:4] + b"\xff\xff" + bytes(16 * 65535),
    "ico with run lengths": lambda: ico([dib(20_000_000, 2, 8, 1, b"\x01\x01\0\0")]),
    "jpeg 2000 of 65,535 tiles": lambda: jpeg2000(255, 257, (1, 1), 3),
    "jpeg 2000 of 16,384 components": lambda: jpeg2000(3000, 3000, (3000, 3000), 16384),
    "jpeg 2000 of 7,000 x 7,000": lambda: jpeg2000(7000, 7000, (7000, 7000), 4),
    "jpeg 2000 of one large tile": lambda: jpeg2000(16, 16, (2**31, 2**31), 3),
    "ppm of text, 30 megapixels": lambda: b"P3 6000 5000 255 " + b"1 " * 2_000_000,
    "ppm with 10 MB of spaces": lambda: b"P2 4 1 255 " + b" " * 10_000_000 + b"1 2 3 4",
    "ppm with a comment of 10 MB": lambda: b"P6 #" + b"x" * 10_000_000 + b"\n1 1 255 abc",
    "ppm of another maximum": lambda: b"P6 3000 2000 254 " + bytes(18_000_000),
    "pbm of text": lambda: b"P1 5000 5000 " + b"1" * 10_000_000,
    "avif that claims 8,000 x 8,000": lambda: avif_claiming(8000, 8000),
    "avif that claims 30,000 x 30,000": lambda: avif_claiming(30000, 30000),
}  # fmt: skip
