"""What image files claim, format by format: one reader of the header for each, and what decoding costs by it.

`mobilenext.data.image_claims` chooses the reader and compares its claims with the limits.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from mobilenext.data.image_limits import ImageLimits

# Larger ones are decoded in a process of their own, so that a process that evaluates or trains stays small.
PLAIN_PIXELS = 25_000_000
PLAIN_BYTES = 64 * 2**20  # of a JPEG whose scans have to be counted

# Metadata beyond these is left out, and kept from Pillow, which would hold all of it, or refuse the image.
METADATA_BYTES = 4 * 2**20
METADATA_PARTS = 500

# Segments before a JPEG's pixels, chunks of a PNG, strips or tiles of a TIFF: Pillow reads each in Python, keeps most.
MOST_PARTS = 200_000

ROW_BYTES = 16  # Pillow keeps a pointer to each row, of an image and of what it is converted to

# Seconds at most, measured on one core of an AMD EPYC and doubled (benchmarks/images.py).
_BLOCK_VISIT_S = 60e-9  # of one 8 x 8 block in one scan of a JPEG, also where the scan holds no data for it
_JPEG_SCAN_S = 50e-6
_JPEG_BYTE_S = 60e-9
_PNG_PIXEL_S = 100e-9  # 16-bit colors, or rows of one pixel
_PNG_CHUNK_S = 10e-6
_PNG_ROW_S = 400e-9
_RLE_PIXEL_S = 400e-9  # Pillow's decoder of run lengths is Python, and fills a line pixel by pixel
_PPM_SAMPLE_S = 600e-9  # likewise of text, and of samples with another maximum than 255
_RAW_PIXEL_S = 20e-9


@dataclass(frozen=True)
class Claims:
    """An image's container, and what decoding it takes at most where that follows from what it claims."""

    format: str  # of Pillow's names; "": none that is known here
    pixels: int = 0
    memory: float = math.inf  # bytes
    seconds: float = math.inf
    what: str = ""  # the claim, in words
    much_metadata: bool = False
    too_many_parts: bool = False

    def bounded(self, limits: ImageLimits) -> bool:
        """Return whether it may be decoded, or refused when Pillow opens it, without a process of its own."""
        refused = not self.format or (self.seconds < math.inf and self.pixels > limits.pixels)
        return refused or (
            self.pixels <= PLAIN_PIXELS
            and self.memory <= limits.bytes_for(self.pixels)
            and self.seconds <= limits.seconds / 2
        )


# --- JPEG: segments (marker, length, content) up to the first scan; scans are counted by their markers

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_SCAN = re.compile(rb"\xff\xda(?=..([\x01-\x04])(.{8}))", re.DOTALL)  # number of components, two bytes for each
_MOST_SCANS = 1_000_000
_JPEG_START = 16384


@dataclass
class _JpegHeader:
    kind: int = 0  # marker of the frame
    frame: bytes = b""
    components: int = 0  # in the first scan; 0: no scan was found
    parts: int = 0
    metadata: int = 0  # bytes


def _jpeg_header(file: BinaryIO) -> _JpegHeader:
    header = _JpegHeader()
    file.seek(2)
    while header.parts <= MOST_PARTS:
        head = file.read(4)
        # Else truncated, or filled with what Pillow skips byte by byte.
        if len(head) < 4 or head[0] != 0xFF or not (0xC0 <= head[1] <= 0xCF or 0xDA <= head[1] <= 0xFE):
            break
        marker, length = head[1], (head[2] << 8 | head[3]) - 2
        if length < 1 and (marker in _JPEG_FRAMES or marker == 0xDA or length < 0):
            break
        if marker in _JPEG_FRAMES:
            header.kind, header.frame = marker, file.read(length)
        elif marker == 0xDA:
            (header.components,) = file.read(1) or b"\0"
            break
        else:
            header.parts += 1
            header.metadata += length
            file.seek(length, io.SEEK_CUR)
    return header


def _jpeg(file: BinaryIO, _: bytes) -> Claims:
    file.seek(0)
    header = _jpeg_header(io.BytesIO(file.read(_JPEG_START)))  # nearly always enough, and faster
    if not header.components:
        header = _jpeg_header(file)
    if header.parts > MOST_PARTS:
        return _too_many_parts("JPEG", "segments before the pixels")
    if not header.components:
        return Claims("JPEG")
    kind, frame = header.kind, header.frame
    height, width, count = struct.unpack(">HHB", frame[1:6])
    sampling = {frame[6 + 3 * i]: divmod(frame[7 + 3 * i], 16) for i in range(count)}
    if len(sampling) != count:
        return Claims("JPEG")
    most = [max(factors) for factors in zip(*sampling.values(), strict=True)]
    blocks = {
        component: math.ceil(width * across / most[0] / 8) * math.ceil(height * down / most[1] / 8)
        for component, (across, down) in sampling.items()
    }
    pixels, scans, visits = width * height, 1, sum(blocks.values())
    single = kind in (0xC0, 0xC1) and header.components == count
    size = 128 * sum(blocks.values())  # of its data at most, two bytes a sample
    if not single:
        scans, visits, size = _scans(file, blocks)
    # Pixels of 4 bytes (gray: 1) and, with several scans, all coefficients (2 bytes, 64 a block).
    memory = pixels * (1 if count == 1 else 4) + (0 if single else 128 * sum(blocks.values()) + 2**20)
    seconds = visits * _BLOCK_VISIT_S + scans * _JPEG_SCAN_S + size * _JPEG_BYTE_S / 2 + pixels * _RAW_PIXEL_S
    if kind not in _HUFFMAN_FRAMES:
        seconds = math.inf  # arithmetic codes take as long as they like
    return Claims(
        "JPEG", pixels, max(memory, 8 * pixels), seconds, f"{scans:,} scans of {width:,} x {height:,} pixels",
        header.parts > METADATA_PARTS or header.metadata > METADATA_BYTES,
    )  # fmt: skip


def _scans(file: BinaryIO, blocks: dict[int, int]) -> tuple[int, float, int]:
    """Return the number of scans, of blocks that all of them together visit, and of the file's bytes."""
    file.seek(0)
    content = file.read(PLAIN_BYTES + 1)
    if len(content) > PLAIN_BYTES:
        return 1, math.inf, 0
    scans, visits = 0, 0
    for scan in itertools.islice(_SCAN.finditer(content), _MOST_SCANS):
        scans += 1
        visits += sum(blocks.get(component, 0) for component in scan[2][: 2 * scan[1][0] : 2])
    return scans, visits, len(content)


# --- PNG: chunks (length, name, content, checksum)

PNG_KEPT = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})  # that decide pixels, of the chunks that may be left out


def png_chunks(file: BinaryIO) -> list[tuple[bytes, int, int]]:
    """Return name, position (of its length) and length of each chunk, up to the last or to what is no chunk."""
    chunks: list[tuple[bytes, int, int]] = []
    at = 8
    while len(chunks) <= MOST_PARTS:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        length, chunk = struct.unpack(">I4s", head)
        chunks.append((chunk, at, length))
        if chunk == b"IEND":
            break
        at += 12 + length
    return chunks


def _png(file: BinaryIO, head: bytes) -> Claims:
    width, height = struct.unpack(">II", head[16:24])
    chunks = png_chunks(file)
    others = [(chunk, length) for chunk, _, length in chunks if chunk != b"IDAT"]
    if [chunk for chunk, _ in others].count(b"IHDR") != 1 or others[0][0] != b"IHDR":
        return Claims("PNG")  # of several sizes Pillow takes the last
    if len(chunks) > MOST_PARTS:
        return _too_many_parts("PNG", "chunks")
    pixels, metadata = width * height, sum(length for _, length in others)
    critical = max((length for chunk, length in others if chunk[:1].isupper() or chunk in PNG_KEPT), default=0)
    return Claims(
        "PNG", pixels, 8 * pixels + ROW_BYTES * height + 4 * critical,
        pixels * _PNG_PIXEL_S + height * _PNG_ROW_S + len(chunks) * _PNG_CHUNK_S,
        f"{len(chunks):,} chunks with {width:,} x {height:,} pixels",
        metadata > METADATA_BYTES or len(others) > METADATA_PARTS,
    )  # fmt: skip


# --- the simple ones


def _bmp(_: BinaryIO, head: bytes) -> Claims:
    width, height, coded = _dib_size(head[14:])
    pixels = width * height
    if head[14:18] not in _DIB_HEADERS:
        return Claims("BMP")
    if coded:
        return Claims("BMP", pixels, math.inf, pixels * _RLE_PIXEL_S, f"run lengths of {width:,} x {height:,} pixels")
    return _raw("BMP", width, height)


_DIB_HEADERS = frozenset(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))


def _dib_size(header: bytes) -> tuple[int, int, bool]:
    """Return width, height, and whether run lengths are stored, of a Windows bitmap's header."""
    (size,) = struct.unpack("<I", header[:4])
    if size == 12:
        return *struct.unpack("<HH", header[4:8]), False
    width, height = struct.unpack("<Ii", header[4:12])
    return width, abs(height), size >= 40 and header[16] in (1, 2)


def _raw(format_name: str, width: int, height: int) -> Claims:
    pixels = width * height
    memory, seconds = 8 * pixels + ROW_BYTES * height, pixels * _RAW_PIXEL_S + height * _PNG_ROW_S
    return Claims(format_name, pixels, memory, seconds, f"{height:,} rows of {width:,} pixels")


_PPM_HEADER = re.compile(rb"P([1-6])(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})\s+(\d{1,9})\s(?:\s*(\d{1,5})\s)?")


def _ppm(file: BinaryIO, _: bytes) -> Claims:
    file.seek(0)
    header = _PPM_HEADER.match(file.read(4096))
    if not header:
        return Claims("PPM")
    kind, width, height = int(header[1]), int(header[2]), int(header[3])
    pixels = width * height
    end = file.seek(0, io.SEEK_END)
    if kind in (4, 5, 6) and (kind == 4 or header[4] == b"255" or (kind == 5 and header[4] == b"65535")):
        return _raw("PPM", width, height)
    samples = min(pixels * (3 if kind in (3, 6) else 1), end)
    what = f"{samples:,} samples, read one by one, of {width:,} x {height:,} pixels"
    return Claims("PPM", pixels, math.inf, samples * _PPM_SAMPLE_S, what)


def _ico(file: BinaryIO, head: bytes) -> Claims:
    """Return the image that Pillow takes: of the largest, by what the directory says, the one with most colors."""
    (count,) = struct.unpack("<H", head[4:6])
    file.seek(6)
    entries = [struct.unpack("<BBBBHHII", file.read(16)) for _ in range(count)]

    def order(entry: tuple[int, ...]) -> tuple[int, int]:
        colors, bits = entry[2], entry[5]
        depth = bits or (colors != 0 and math.ceil(math.log(colors, 2))) or 256
        return -(entry[0] or 256) * (entry[1] or 256), depth

    file.seek(min(entries, key=order)[7])
    inner = file.read(32)
    if inner.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", inner[16:24])
    else:
        width, height, _ = _dib_size(inner)
        height //= 2
    return Claims("ICO", width * height, what=f"an image of {width} x {height}")


# --- formats whose memory is known and too much; whether what is below the limit is bounded is left to the process


def _webp(_: BinaryIO, head: bytes) -> Claims:
    if head[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack("<HH", head[26:30]))
    # Two canvases and a copy of what is shown, all with 4 bytes a pixel.
    return _too_much("WEBP", width * height, 12 * width * height, f"WebP's {width:,} x {height:,} pixels")


def _jpeg2000(file: BinaryIO, _: bytes) -> Claims:
    file.seek(0)
    start = file.read(65536)
    right, below, left, above, tile_width, tile_height, tile_left, tile_above, components = struct.unpack_from(
        ">8IH", start, start.index(b"\xff\x4f\xff\x51") + 8
    )
    width, height = right - left, below - above
    tiles = math.ceil((right - tile_left) / tile_width) * math.ceil((below - tile_above) / tile_height)
    in_tile = min(tile_width, width) * min(tile_height, height)
    # Pixels of 4 bytes, samples of a tile as integers and as bytes, and what the library keeps of each tile.
    memory = 4 * width * height + 5 * components * in_tile + tiles * (5600 + 1000 * components)
    what = f"JPEG 2000's {tiles:,} tiles and {components:,} components of {width:,} x {height:,} pixels"
    return _too_much("JPEG2000", width * height, memory, what)


def _too_much(format_name: str, pixels: int, memory: int, what: str) -> Claims:
    """Return the claims of a format that needs at least so much memory."""
    return Claims(format_name, pixels, memory, math.inf, what)


def _too_many_parts(format_name: str, parts: str) -> Claims:
    return Claims(format_name, 1, math.inf, math.inf, f"more than {MOST_PARTS:,} {parts}", too_many_parts=True)


READERS: dict[str, Callable[[BinaryIO, bytes], Claims]] = {
    "JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "PPM": _ppm, "ICO": _ico, "WEBP": _webp, "JPEG2000": _jpeg2000,
}  # fmt: skip
