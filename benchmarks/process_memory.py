"""The memory of a process and of all that it started, over time (Linux)."""

from __future__ import annotations

import threading
import time
from pathlib import Path


class MemoryOfTree(threading.Thread):
    """The sums of the proportional set sizes of a process and its descendants, in MiB, with the time of each."""

    def __init__(self, pid: int, every: float = 0.2) -> None:
        """Prepare to look at the process `pid` every so many seconds, until it ends."""
        super().__init__(daemon=True)
        self.pid, self.every = pid, every
        self.samples: list[tuple[float, float]] = []  # (time.monotonic(), MiB)

    @property
    def peak_mib(self) -> float:
        """Return the largest sum."""
        return max((mib for _, mib in self.samples), default=0.0)

    def run(self) -> None:
        """Look until the process ends."""
        while Path(f"/proc/{self.pid}").exists():
            self.samples.append((time.monotonic(), _kib(self.pid) / 1024))
            time.sleep(self.every)


def _kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        size = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = " ".join((task / "children").read_text() for task in tasks).split()
    except OSError:
        return 0
    return size + sum(_kib(int(child)) for child in children)
