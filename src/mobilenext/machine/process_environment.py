"""Environment variables of processes that compute: threads and speed. They are set here and nowhere else."""

from __future__ import annotations

import ctypes
import os
import sys

# Set for every process that computes. Freed memory is kept instead of being returned to the system after each
# call; the MKL in Paddle's wheel takes its slow path on AMD processors unless it is told their type.
FAST_PROCESS = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "MKL_DEBUG_CPU_TYPE": "5",
    "GLOG_minloglevel": "2",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime would look for its maker's server; it reads this when imported
    "PYTHONWARNINGS": "ignore:No ccache found",  # Paddle's remark, when imported, on building extensions
}

# mallopt(3) of the GNU C library: no memory of its own for large blocks, and none given back, as FAST_PROCESS asks for;
# from inside a process the environment would come too late.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2


def compute_environment(threads: int) -> dict[str, str]:
    """Return the variables of a new process that computes with `threads` threads."""
    threads_of = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    return {**FAST_PROCESS, "GLIBC_TUNABLES": _with_huge_pages(os.environ.get("GLIBC_TUNABLES", "")), **threads_of}


def _with_huge_pages(tunables: str) -> str:
    """Return the settings of the GNU C library, with the one for memory in pages of 2 MiB unless there is one.

    A network's weights and activations are some 30 MB: in pages of 4 KiB, looking up their addresses takes some 3 %
    of the time. The library reads the setting once, when a process starts; those that do not know it ignore it.
    """
    name = "glibc.malloc.hugetlb"
    return tunables if name in tunables else ":".join(filter(None, (tunables, f"{name}=1")))


def openmp_threads() -> int:
    """Return the threads that ``OMP_NUM_THREADS`` asks for (its first number counts); 1 without it."""
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
