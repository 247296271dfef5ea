"""JPEG and PNG without what is not pixels: text, profiles, thumbnails, comments.

Pillow refuses a whole image for some of its metadata (a megabyte of XMP, a text that is compressed in an unknown way),
and keeps all of it in memory. Where that matters the image is read from a view of its file without the metadata;
what says how the image is turned is kept beside it.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO, cast

from mobilenext.data.image_headers import PNG_KEPT, png_chunks

Info = dict[str | tuple[int, int], object]  # as of Pillow's images

_EXIF_BYTES = 2**20
_XMP_BYTES = 64 * 2**20  # of which it is looked for how the image is turned
_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([0-9])')  # as in PIL.Image.Image.getexif


class _Sections(io.RawIOBase):
    """The sections (position, length) of a file, one after the other."""

    def __init__(self, file: BinaryIO, sections: Iterable[tuple[int, int]]) -> None:
        self._file = file
        self._sections = [(start, length) for start, length in sections if length > 0]
        self._size = sum(length for _, length in self._sections)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._position
        for start, length in self._sections:
            if at < length:
                self._file.seek(start + at)
                content = self._file.read(min(len(buffer), length - at))
                buffer[: len(content)] = content
                self._position += len(content)
                return len(content)
            at -= length
        return 0


def without_metadata(file: BinaryIO, format_name: str) -> tuple[BinaryIO, Info]:
    """Return a view of a JPEG or PNG that holds pixels only, and what Pillow's ``info`` would hold of EXIF and XMP.

    The view is `file` itself where there is nothing to leave out.
    """
    end = file.seek(0, io.SEEK_END)
    info: Info = {}
    left_out = {"JPEG": _jpeg, "PNG": _png}[format_name](file, info)
    if not left_out:
        return file, info
    kept: list[tuple[int, int]] = []
    at = 0
    for start, length in left_out:
        kept.append((at, start - at))
        at = start + length
    kept.append((at, end - at))
    return cast(BinaryIO, io.BufferedReader(_Sections(file, kept), 65536)), info


def _jpeg(file: BinaryIO, info: Info) -> list[tuple[int, int]]:
    """Comments and application segments but those that decide colors: JFIF (0) and Adobe (14)."""
    left_out: list[tuple[int, int]] = []
    exif = b""
    at = 2
    while True:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] < 0xC0 or head[1] == 0xDA:
            break
        marker, (length,) = head[1], struct.unpack(">H", head[2:])
        if length < 2:
            break
        if marker == 0xFE or marker in range(0xE1, 0xEE) or marker == 0xEF:
            left_out.append((at, 2 + length))
            start = file.read(min(length - 2, 29)) if marker == 0xE1 else b""
            if start.startswith(b"Exif\0\0") and len(exif) < _EXIF_BYTES:
                content = start + file.read(length - 2 - len(start))
                exif += content[6:] if exif else content
            elif start == b"http://ns.adobe.com/xap/1.0/\0":
                info["xmp"] = file.read(length - 2 - len(start))
        at += 2 + length
    if exif:
        info["exif"] = exif
    return left_out


def _png(file: BinaryIO, info: Info) -> list[tuple[int, int]]:
    """Chunks that need not be understood and are whole; a wrong checksum is damage, and stays visible."""
    left_out: list[tuple[int, int]] = []
    for chunk, at, length in png_chunks(file):
        if not chunk[:1].islower() or chunk in PNG_KEPT or not _whole(file, at, length):
            continue
        left_out.append((at, 12 + length))
        file.seek(at + 8)
        if chunk == b"eXIf" and length <= _EXIF_BYTES:
            info["exif"] = b"Exif\0\0" + file.read(length)
        elif chunk == b"iTXt" and length <= _XMP_BYTES:
            keyword, _, rest = file.read(length).partition(b"\0")
            if keyword == b"XML:com.adobe.xmp" and (orientation := _ORIENTATION.search(_text(rest))):
                info["xmp"] = orientation[0]
    return left_out


def _text(content: bytes) -> bytes:
    """Return the text of an international text chunk, after its keyword."""
    text = content[2:].split(b"\0", 2)[-1]
    if content[:1] != b"\1":
        return text
    try:
        return zlib.decompressobj().decompress(text, _XMP_BYTES)
    except zlib.error:
        return b""


def _whole(file: BinaryIO, at: int, length: int) -> bool:
    """Return whether a chunk's checksum is right."""
    file.seek(at + 4)
    left, checksum = 4 + length, 0
    while left and (block := file.read(min(left, 65536))):
        checksum = zlib.crc32(block, checksum)
        left -= len(block)
    return file.read(4) == struct.pack(">I", checksum)
