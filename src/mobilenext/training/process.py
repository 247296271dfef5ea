"""Settings of a process that trains, to be made before Paddle is imported."""

from __future__ import annotations

import ctypes
import os
import sys

from mobilenext.runtime import FAST_PROCESS

# mallopt(3) of the GNU C library: no memory of its own for large blocks, and none given back, as FAST_PROCESS asks for;
# from inside a process the environment would come too late.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2


def openmp_threads() -> int:
    """The threads that the environment asks for (``OMP_NUM_THREADS``, whose first number counts); 1 without it."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() and int(first) else 1


def prepare_process(threads: int) -> None:
    """Make this process fast on a CPU: Paddle's libraries read these settings when they are loaded.

    An environment that says otherwise is respected, but for the number of threads.
    """
    for name, value in FAST_PROCESS.items():
        os.environ.setdefault(name, value)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(_TOP_PAD, 64 << 20)
