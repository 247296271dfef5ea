"""What C++ libraries print, kept away from standard output, which is for results."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from mobilenext.machine.streams import open_closed


@contextlib.contextmanager
def captured_output() -> Iterator[list[str]]:
    """Inside, nothing that this process writes to its standard streams appears; afterwards it is in the list."""
    output: list[str] = []
    open_closed()
    with _memory() as stream:
        kept = [os.dup(1), os.dup(2)]
        try:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            with contextlib.redirect_stdout(sys.stderr):  # Python's may be elsewhere by now
                yield output
                if sys.stderr is not None:
                    sys.stderr.flush()
        finally:
            _flush_c_buffers()
            for number, original in zip((1, 2), kept, strict=True):
                os.dup2(original, number)
                os.close(original)
            stream.seek(0)
            output.append(stream.read().decode(errors="replace"))


def _memory() -> IO[Any]:
    """A file that needs no folder, where the system has such."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("mobilenext"), "w+b")  # noqa: PTH123
    return tempfile.TemporaryFile()


def _flush_c_buffers() -> None:
    """C's buffers are not Python's; where they cannot be reached, what is in them appears later."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
