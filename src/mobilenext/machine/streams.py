"""Standard streams that may be closed, full or gone: the work goes on, and the exit code reports lost results."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any


class _Descriptor(io.FileIO):
    """A file descriptor whose failures do not stop the work; the first is kept in ``error``.

    A pipe whose reader has gone is no failure: ``| head`` has read what it wanted.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            # None: the pipe is full, and another process that shares it has made it non-blocking. Wait for room.
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except BrokenPipeError:
            return len(data)  # as if written: BufferedWriter would try again for ever
        except OSError as error:
            self.error = self.error or error
            return len(data)


def open_streams() -> None:
    """Take over this process' standard streams.

    From here on only Python's ``sys.stdout`` is standard output. Descriptor 1, which C++ libraries print to, becomes
    standard error: what they print is not a result.
    """
    closed = open_closed()
    _flush(sys.stdout)
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = text_stream(results, sys.stdout)
    sys.stderr = text_stream(2, sys.stderr, line_buffering=True)
    if 1 in closed:
        print("mobilenext: standard output is closed: results are not printed", file=sys.stderr)


def open_closed() -> list[int]:
    """Open the null device in place of every standard stream that is closed, and return their numbers.

    Otherwise the next file that is opened would get the number, and with it what libraries print.
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for number in closed:
        null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is mostly the one that is wanted
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)  # Python's default is not, and workers need their streams, too
    return closed


def text_stream(descriptor: int, like: io.TextIOBase | Any, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """Return a stream that writes to a file descriptor and does not fail, with the encoding of `like` (may be None)."""
    raw = _Descriptor(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="backslashreplace",  # for file names that are no text
        line_buffering=line_buffering or raw.isatty(),
    )


def replace_missing() -> None:
    """Replace streams that are None, as in a program without a console, by the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def lost_results() -> OSError | None:
    """Return why results could not be written to standard output, or None."""
    _flush(sys.stdout)
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Descriptor) else None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, None
        stream.flush()
