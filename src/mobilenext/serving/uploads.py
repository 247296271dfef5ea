"""The image out of a request: counted while it arrives, in memory only, within a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from anyio import fail_after, move_on_after
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mobilenext.serving.limits import Limits
from mobilenext.serving.problems import Problem

_OTHERS = ("application/json", "application/x-www-form-urlencoded", "text/plain", "text/html", "application/xml")
_BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\1\0", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
LONGEST_NAME = 255  # of a file, which the answer repeats
DRAIN_S = 1.0  # how long a body that is too large is read on and dropped, so that its sender sees the answer


@dataclass(frozen=True)
class Upload:
    """One image file."""

    content: bytes
    name: str | None  # that a form gives it, without folders; None: the body is the image


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Return the one image in a request: the body itself, or the part `file` of a form.

    Raises:
        Problem: 400 no image, 408 too slow, 413 too large, 415 another kind of body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        with fail_after(limits.timeout_s):
            body = await _bounded(request, limits.max_body_bytes)
    except TimeoutError as error:
        raise Problem(408, f"the upload was not complete after {limits.timeout_s:g} s", close=True) from error
    except ClientDisconnect as error:
        raise Problem(400, "the upload was broken off", close=True) from error
    # Programs send images as whatever their default is (curl --data-binary as a form): the bytes decide.
    name = None
    if kind == "multipart/form-data" and not begins_as_image(body):
        body, name = await _part(request, body)
    if not body:
        raise Problem(400, "the upload is empty; expected the bytes of one image")
    if kind in _OTHERS and not begins_as_image(body):
        raise Problem(
            415,
            f"the content type is {kind[:80]}, and the bytes are no image; expected those of an image file, or a form "
            "(multipart/form-data) with a file in it; addresses of images are not fetched",
        )
    return Upload(body, name)


def begins_as_image(content: bytes) -> bool:
    """Return whether the first bytes are those of an image file."""
    return content.startswith(_BEGINNINGS) or content[4:8] == b"ftyp"


async def _bounded(request: Request, limit: int) -> bytes:
    claimed = request.headers.get("content-length", "")
    stream = request.stream()
    chunks: list[bytes] = []
    size = int(claimed) if claimed.isdecimal() and len(claimed) < 20 else 0
    if size <= limit:
        size = 0
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                break
            chunks.append(chunk)
        else:
            return b"".join(chunks)
    chunks.clear()
    with contextlib.suppress(ClientDisconnect), move_on_after(DRAIN_S):
        await _drop(stream, 4 * limit)
    raise Problem(413, f"the upload has more than {limit:,} bytes, the limit; shrink the image", close=True)


async def _drop(stream: AsyncGenerator[bytes, None], at_most: int) -> None:
    async for chunk in stream:
        at_most -= len(chunk)
        if at_most < 0:
            return


class _InMemory(MultiPartParser):
    """A form whose files stay in memory: the body is there already, and is bounded."""

    spool_max_size = 2**62
    max_file_size = spool_max_size  # its name in older versions of Starlette


async def _part(request: Request, body: bytes) -> tuple[bytes, str | None]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(request.headers, once(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise Problem(400, f"the form cannot be read: {error.message}") from error
    except Exception as error:  # hostile headers make the parser raise ValueError, UnicodeDecodeError, LookupError ...
        raise Problem(400, "the form cannot be read") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Problem(400, "the form has no file in it; expected one, in a part of any name")
        name = (files[0].filename or "").replace("\\", "/").rpartition("/")[2]
        return await files[0].read(), name.encode(errors="replace").decode()[:LONGEST_NAME] or None
    finally:
        await form.close()
