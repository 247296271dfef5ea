"""Standard streams that may be closed, full or gone: the work goes on, and the exit code tells of lost results."""

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
            while (written := super().write(data)) is None:  # somebody has made it non-blocking, and it is full
                select.select([], [self.fileno()], [])
            return written
        except BrokenPipeError:
            return len(data)
        except OSError as error:
            self.error = self.error or error
            return len(data)


def open_streams() -> None:
    """Take over this process' standard streams.

    From here on only Python's ``sys.stdout`` is standard output; what C++ libraries print there is not a result, and
    goes to standard error.
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
    """Open the null device in place of each standard stream that is closed, and return their numbers.

    Otherwise the next file that is opened would get the number, and with it what libraries print.
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for number in closed:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
    return closed


def text_stream(descriptor: int, like: io.TextIOBase | Any, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """A stream that writes to a file descriptor and does not fail, with the encoding of `like`, which may be None."""
    raw = _Descriptor(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="backslashreplace",  # for file names that are no text
        line_buffering=line_buffering or raw.isatty(),
    )


def replace_missing() -> None:
    """Streams that Python has not, such as in a program without a console, become the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def lost_results() -> OSError | None:
    """Why results could not be written to standard output, if so."""
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
