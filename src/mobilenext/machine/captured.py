"""Capture what C++ libraries print: standard output is for results."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from mobilenext.machine.streams import open_closed

_ONE_AT_A_TIME = threading.RLock()  # the streams are those of the whole process


@contextlib.contextmanager
def captured_output() -> Iterator[list[str]]:
    """Redirect both standard streams to memory; at the end, all that was written is appended to the list as one text.

    The descriptors are replaced, since C++ writes to 1 and 2 directly, and Python's streams, which need not be these: a
    notebook has its own. This holds for all threads, of which one at a time captures.
    """
    output: list[str] = []
    open_closed()  # else the file below might get the number 1 or 2 itself
    with _ONE_AT_A_TIME, _memory() as stream:
        kept = [os.dup(1), os.dup(2)]
        try:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            with (
                os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8", errors="backslashreplace") as text,
                contextlib.redirect_stdout(text),
                contextlib.redirect_stderr(text),
            ):
                yield output
        finally:
            _flush_c_buffers()  # before the descriptors are back, or their content would appear after all
            for number, original in zip((1, 2), kept, strict=True):
                os.dup2(original, number)
                os.close(original)
            stream.seek(0)
            output.append(stream.read().decode(errors="replace"))


def _memory() -> IO[Any]:
    """Return a file that needs no folder, if the system has such (memfd_create)."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("mobilenext"), "w+b")  # noqa: PTH123
    return tempfile.TemporaryFile()


def _flush_c_buffers() -> None:
    """Flush C's buffers, which are not Python's; if they cannot be reached, their content appears later."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
