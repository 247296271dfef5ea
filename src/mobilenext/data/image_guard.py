"""Decode an image in another process, whose memory and time are bounded, and which may crash.

A process is started when the first image needs one, takes a quarter of a second for that, and is kept for the next; it
is killed when it takes too long, replaced when it has died, and ends with the one that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from mobilenext.data.image_decoding import Order, blocks
from mobilenext.errors import ImageError

log = logging.getLogger(__name__)

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from mobilenext.data.image_process import main; main()"
)
# The memory of small images is kept for the next one, that of large ones is given back at once (mallopt(3)).
_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TOP_PAD_": str(2 * 2**20),
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_START_S = 60.0
_LEAST_WAIT_S = 5.0
_LONGEST_LINE = 2**16
_PIPE_BYTES = 2**20
_KEPT = 16  # processes that wait for the next image


class CannotStart(Exception):
    """No process can be started here."""


class _Ended(Exception):
    """The process ended, or was ended, before it had answered."""


class _Late(Exception):
    """No answer in time."""


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | _MEMORY
        path = [os.path.abspath(folder) for folder in sys.path if folder]  # noqa: PTH100
        command = [sys.executable, "-I", "-c", _START, str(os.getpid()), json.dumps(path)]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CannotStart(str(error)) from error
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._requests, False)
        with contextlib.suppress(AttributeError, OSError):  # of Linux, and bounded for a user
            for stream in (self._requests, self._answers):
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._received = b""
        try:
            self._line(time.monotonic() + _START_S)
        except (_Ended, _Late) as error:
            self.end()
            raise CannotStart(f"it ended with {self.process.returncode} before it was ready") from error

    def decode(self, order: Order, source: Path | bytes, deadline: float) -> tuple[Image.Image, bool]:
        """Return the image, and whether this process may be used again.

        Raises:
            ImageError: what the process said of the image.
        """
        request = {
            "name": str(order.name),
            "apply_orientation": order.apply_orientation,
            "limits": dataclasses.asdict(order.limits),
            "path": None,
            "length": 0,
        }
        if isinstance(source, bytes):
            request["length"] = len(source)
            self._write(json.dumps(request).encode() + b"\n", deadline)
            self._write(source, deadline)
        else:
            request["path"] = os.fsencode(source.absolute()).decode("latin-1")
            self._write(json.dumps(request).encode() + b"\n", deadline)
        answer = self._line(deadline)
        if "error" in answer:
            raise ImageError(answer["error"])
        width, height = answer["size"]
        boxes = list(blocks((width, height)))
        if len(boxes) == 1:
            image = self._block((width, height), deadline)
        else:
            image = Image.new("RGB", (width, height))
            for box in boxes:
                image.paste(self._block((box[2] - box[0], box[3] - box[1]), deadline), box)
        return image, not answer["last"]

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _write(self, content: bytes, deadline: float) -> None:
        left = memoryview(content)
        while left:
            self._wait(self._requests, select.POLLOUT, deadline)
            try:
                left = left[os.write(self._requests, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Ended from error

    def _line(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST_LINE:
                raise _Ended
            self._receive(deadline)
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _block(self, size: tuple[int, int], deadline: float) -> Image.Image:
        return Image.frombytes("RGB", size, self._read(4 * size[0] * size[1], deadline), "raw", "RGBX")

    def _read(self, length: int, deadline: float) -> bytearray:
        content = bytearray(length)
        at = min(length, len(self._received))
        content[:at], self._received = self._received[:at], self._received[at:]
        view = memoryview(content)
        while at < length:
            self._wait(self._answers, select.POLLIN, deadline)
            received = os.readv(self._answers, [view[at:]])
            if not received:
                raise _Ended
            at += received
        return content

    def _receive(self, deadline: float) -> None:
        self._wait(self._answers, select.POLLIN, deadline)
        received = os.read(self._answers, 65536)
        if not received:
            raise _Ended
        self._received += received

    def _wait(self, stream: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(stream, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
            raise _Late


_idle: list[_Decoder] = []
_lock = threading.Lock()
_unavailable = ""  # why no process can be started


def decode_elsewhere(order: Order, source: Path | bytes, wait_s: float | None = None) -> Image.Image:
    """As :func:`mobilenext.data.image_decoding.decode`, in a process of its own.

    Args:
        order: what is to be decoded, and within which limits.
        source: the file, or its content.
        wait_s: by the clock; None: three times the limit of the time on a core, since other work may be running.

    Raises:
        ImageError: the image cannot be decoded, or takes too much memory or time. CannotStart: there is no process.
    """
    deadline = time.monotonic() + (max(_LEAST_WAIT_S, 3 * order.limits.seconds) if wait_s is None else wait_s)
    for attempt in range(2):
        decoder = _take()
        try:
            image, again = decoder.decode(order, source, deadline)
        except ImageError:
            _give_back(decoder)
            raise
        except _Late as error:
            decoder.end()
            raise ImageError(f"{order.name}: not decoded in time; {_advice()}") from error
        except _Ended as error:
            decoder.end()
            # Killed for its time, that is the image's doing. Anything else may have had another cause: once more.
            if attempt or decoder.process.returncode == -signal.SIGPROF:
                raise ImageError(_why(order, -decoder.process.returncode)) from error
        except BaseException:
            decoder.end()
            raise
        else:
            if again:
                _give_back(decoder)
            else:
                decoder.end()
            return image
    raise AssertionError("not reached")


def _why(order: Order, number: int) -> str:
    if number == signal.SIGPROF:
        return f"{order.name}: takes more than {order.limits.seconds:g} s to decode, the limit; {_advice()}"
    if number == signal.SIGKILL:
        return f"{order.name}: the system killed the process that decoded it, mostly for want of memory; {_advice()}"
    return f"{order.name}: the process that decoded it crashed (signal {number}); take it off the list"


def _advice() -> str:
    return "store it anew or take it off the list, or raise MOBILENEXT_IMAGE_SECONDS or MOBILENEXT_IMAGE_MEMORY_MIB"


def _take() -> _Decoder:
    global _unavailable
    with _lock:
        if _idle:
            return _idle.pop()
        if _unavailable:
            raise CannotStart(_unavailable)
    try:
        return _Decoder()
    except CannotStart as error:
        with _lock:
            if not _unavailable:
                _unavailable = str(error)
                log.warning(
                    "no process can be started to decode images (%s): memory and time of an image are bounded only by "
                    "what its header claims", error,
                )  # fmt: skip
        raise


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        if len(_idle) < _KEPT:
            _idle.append(decoder)
            return
    decoder.end()


def _end_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().end()


def _after_fork() -> None:
    """Forget the decoders in a forked copy of this process, which must not talk to them."""
    global _lock
    _lock = threading.Lock()
    for decoder in _idle:
        decoder.process.returncode = 0  # not this process' child: nobody here waits for it
    _idle.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
