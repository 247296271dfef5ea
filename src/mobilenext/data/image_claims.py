"""What an image file claims beside its pixels, read from its first bytes without decoding anything.

Decoding a file is bounded where its memory and its time follow from such claims: JPEG (size, components, sampling,
number of scans), PNG (size, number and length of chunks), BMP and PPM without a code. Those are decoded in the process
that asks. All others are left to a process whose memory and time the system bounds (`mobilenext.data.image_process`),
and so is any file that is odd in a way this module does not know: a wrong guess here costs time and nothing else.
"""

from __future__ import annotations

import math
import struct
from typing import BinaryIO

from mobilenext.data.image_headers import READERS, Claims
from mobilenext.data.image_limits import PROCESS_BYTES, ImageLimits
from mobilenext.errors import ImageError


def read_claims(name: object, file: BinaryIO, limits: ImageLimits) -> Claims:
    """Read what the image in `file` claims; the position in the file is lost.

    Raises:
        ImageError: more memory or time than the limits allow, with the claim.
    """
    file.seek(0)
    head = file.read(32)
    format_name = container(head)
    try:
        claims = READERS[format_name](file, head) if format_name in READERS else Claims(format_name)
    except (struct.error, ValueError, IndexError, ArithmeticError):
        return Claims(format_name)
    if claims.too_many_parts:
        raise ImageError(f"{name}: {claims.what}; store it anew or take it off the list")
    if claims.pixels > limits.pixels and claims.seconds == math.inf:  # Pillow takes memory before it tells the size
        raise ImageError(
            f"{name}: {claims.what} = {claims.pixels:,} pixels; expected 1 to {limits.pixels:,}: shrink it or take it "
            "off the list"
        )
    if claims.pixels > limits.pixels:
        return claims
    process = PROCESS_BYTES if claims.seconds == math.inf else 0
    allowed = limits.bytes_for(claims.pixels) - process
    if allowed < claims.memory < math.inf:
        own = f" and {process / 2**20:.0f} for the process that decodes" if process else ""
        raise ImageError(
            f"{name}: {claims.what} take {claims.memory / 2**20:,.0f} MiB to decode; the limit is 8 bytes a pixel and "
            f"{limits.memory_mib:g} MiB, here {allowed / 2**20:,.0f} MiB{own}: shrink it, store it otherwise, or "
            "raise MOBILENEXT_IMAGE_MEMORY_MIB"
        )
    if limits.seconds < claims.seconds < math.inf:
        raise ImageError(
            f"{name}: {claims.what} take up to {claims.seconds:,.0f} s to decode; the limit is {limits.seconds:g} s: "
            "store it anew or take it off the list, or raise MOBILENEXT_IMAGE_SECONDS"
        )
    return claims


def container(head: bytes) -> str:
    """Return Pillow's name of the format that begins so, of those that are read here; "" for another one."""
    for prefix, format_name in _PREFIXES.items():
        if head.startswith(prefix):
            return format_name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    return "PPM" if len(head) > 2 and head[:1] == b"P" and head[1] in b"0123456fy" else ""


_PREFIXES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"\0\0\1\0": "ICO",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"MM*\0": "TIFF", b"II\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
    b"\xff\x4f\xff\x51": "JPEG2000", b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
}  # fmt: skip
