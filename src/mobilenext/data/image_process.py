"""The process that decodes what could cost anything: one image after another, in bounded memory and time.

It is started by `mobilenext.data.image_guard` and ends when its standard input does. A request is a line of JSON, then
the image, where no path is given; the answer is a line of JSON, then the pixels (as Pillow holds them, 4 bytes each).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from mobilenext.data.image_claims import read_claims
from mobilenext.data.image_decoding import Order, available_formats, blocks, decode, one_line
from mobilenext.data.image_limits import PROCESS_BYTES, ImageLimits
from mobilenext.errors import ImageError

LARGEST_GROWTH = 16 * 2**20  # of a process that is used again


def main() -> None:
    """Answer requests until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the process that asks, which may want to finish its work
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out, this is the process to end
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, AttributeError):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each has a frame of its own
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    available_formats()
    started = _address_space()
    _send(answers, {"ready": True})
    while line := requests.readline():
        request = json.loads(line)
        _answer(request, requests, answers, started)


def _answer(request: dict[str, Any], requests: BinaryIO, answers: BinaryIO, started: int) -> None:
    order = Order(request["name"], request["apply_orientation"], ImageLimits(**request["limits"]))
    if request["path"] is None:
        content = requests.read(request["length"])
        opened: BinaryIO = io.BytesIO(content)
        del content
    else:
        opened = Path(os.fsdecode(request["path"].encode("latin-1"))).open("rb")  # noqa: SIM115
    signal.setitimer(signal.ITIMER_PROF, order.limits.seconds)  # its signal ends this process
    try:
        with opened:
            image = _decode(order, opened, request["length"])
    except ImageError as error:
        _send(answers, {"error": str(error)})
        return
    except Exception as error:
        _send(answers, {"error": f"{order.name}: cannot be decoded: {type(error).__name__}: {one_line(error)}"})
        return
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_address_space(resource.RLIM_INFINITY)
    width, height = image.size
    _send(answers, {"size": image.size, "last": _address_space() - started - 4 * width * height > LARGEST_GROWTH})
    boxes = list(blocks(image.size))
    for box in boxes:
        answers.write((image if len(boxes) == 1 else image.crop(box)).tobytes("raw", "RGBX"))
    answers.flush()


def _decode(order: Order, file: BinaryIO, length: int) -> Image.Image:
    limits = order.limits
    size = _address_space()
    claims = read_claims(order.name, file, limits)
    spare = int(limits.memory_mib * 2**20) - PROCESS_BYTES - length
    # The address space bounds the memory; a format that tells its size late has to do with less until then.
    _limit_address_space(size + spare + 8 * min(claims.pixels, limits.pixels))
    return decode(order, file, claims, lambda pixels: _limit_address_space(size + spare + 8 * pixels))


def _limit_address_space(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        size = hard if size == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def _address_space() -> int:
    """Return the size of this process' address space in bytes."""
    if _statm() < 0:
        return 2**30  # a system without /proc: a bound, but a wide one
    return int(os.pread(_statm(), 64, 0).split()[0]) * resource.getpagesize()


@cache
def _statm() -> int:
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return -1


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _send(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()
