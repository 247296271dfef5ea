"""The width and height that an image's header states, without decoding anything."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

_FIRST_BYTES = 32
_MOST_SEGMENTS = 1000  # of a JPEG, before the frame
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame


def image_size(path: Path) -> tuple[int, int] | None:
    """Return width and height in pixels, as stored: not turned by the EXIF orientation.

    JPEG, PNG, GIF, BMP and WebP are known. None: another format, or a header that is damaged, which decoding tells.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            return _size(file, file.read(_FIRST_BYTES))
        except struct.error:
            return None


def _size(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", head[16:24])
    if head.startswith(b"GIF8"):
        return struct.unpack("<HH", head[6:10])
    if head.startswith(b"BM") and head[14:18] != b"\x0c\0\0\0":
        width, height = struct.unpack("<ii", head[18:26])
        return width, abs(height)  # below 0: rows from the top
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        mark, marker = struct.unpack(">BB", file.read(2))
        while marker == 0xFF:  # padding
            (marker,) = struct.unpack(">B", file.read(1))
        (length,) = struct.unpack(">H", file.read(2))
        if mark != 0xFF or length < 2:
            return None
        if marker in _FRAMES:
            height, width = struct.unpack(">xHH", file.read(5))
            return (width, height) if width and height else None
        file.seek(length - 2, io.SEEK_CUR)
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None
