"""The image out of a request: counted while it arrives, in memory only, within a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mobilenext.serving.limits import Limits
from mobilenext.serving.problems import Problem

DRAIN_S = 1.0  # how long a body that is too large is read on and dropped, so that its sender sees the answer


async def read_upload(request: Request, limits: Limits) -> bytes:
    """The content of the one image in a request: the body itself, or the part `file` of a form.

    Raises:
        Problem: 400 no image, 408 too slow, 413 too large, 415 another kind of body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("", "multipart/form-data", "application/octet-stream") and not kind.startswith("image/"):
        raise Problem(
            415,
            f"the content type is {kind[:80]}; expected an image (image/png, application/octet-stream, ...) or a form "
            "(multipart/form-data) with the part 'file'; addresses of images are not fetched",
            close=True,
        )
    try:
        body = await asyncio.wait_for(_bounded(request, limits.max_body_bytes), limits.timeout_s)
    except asyncio.TimeoutError as error:
        raise Problem(408, f"the upload was not complete after {limits.timeout_s:g} s", close=True) from error
    except ClientDisconnect as error:
        raise Problem(400, "the upload was broken off", close=True) from error
    content = await _part(request, body) if kind == "multipart/form-data" else body
    if not content:
        raise Problem(400, "the upload is empty; expected the bytes of one image")
    return content


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
    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
        await asyncio.wait_for(_drop(stream, 4 * limit), DRAIN_S)
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


async def _part(request: Request, body: bytes) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(request.headers, once(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise Problem(400, f"the form cannot be read: {error.message}") from error
    except Exception as error:  # hostile headers make the parser raise ValueError, UnicodeDecodeError, LookupError ...
        raise Problem(400, "the form cannot be read") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Problem(400, "the form has no file in a part named 'file'")
        return await file.read()
    finally:
        await form.close()
