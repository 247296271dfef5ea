"""Worker processes that keep the order: what goes in comes out, once each, in the same order, or an error says why.

There is no shared memory and no silent replacement; a worker that dies ends the run. Processes are started afresh
(not forked, which Paddle does not survive) and do not import the caller's main module, so a script needs no guard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, TypeVar

from loky import cpu_count
from loky.process_executor import ProcessPoolExecutor

from mobilenext.errors import MobileNeXtError

T = TypeVar("T")
R = TypeVar("R")


class WorkerDied(MobileNeXtError):
    """A worker process was killed or crashed."""

    exit_code = 3


def available_cores() -> int:
    """Cores that this process may use, by its affinity and by a container's quota."""
    return int(cpu_count())


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, even if that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _start(parent: int, slots: str, threads: int | None) -> None:
    """Run first in every worker: leave Ctrl-C to the parent, and with `threads` take that many cores for oneself.

    Some inference engines bind themselves to the first cores that they may use, so that two processes of one thread
    share one core while the other is idle. A worker that may use its own cores only cannot be bound to another's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if threads is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    for slot in range(len(cores) // threads):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(slots, str(slot)))  # noqa: PTH102, PTH118 - one process only can make it
            os.sched_setaffinity(0, cores[slot * threads : (slot + 1) * threads])
            return


class WorkerPool:
    """A context manager over `workers` processes, each started with `environment` added to the caller's.

    With `threads`, the cores are shared out, so many to each process, as far as they go.
    """

    def __init__(
        self, workers: int, environment: Mapping[str, str] | None = None, *, threads: int | None = None
    ) -> None:
        self.workers = workers
        self._slots = tempfile.TemporaryDirectory(prefix="mobilenext-slots-")
        self._executor = ProcessPoolExecutor(
            max_workers=workers,
            initializer=_start,
            initargs=(os.getpid(), self._slots.name, threads),
            env=dict(environment or {}),
        )

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # After an error or Ctrl-C nothing that the workers still do is of use.
        self._executor.shutdown(wait=True, kill_workers=error is not None)
        self._slots.cleanup()

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Run one call in a worker and wait for it. Exceptions come back as they were raised."""
        future: Future[R] = self._executor.submit(function, *arguments)
        return self._result(future)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results in the order of `items`; at most three calls for each worker are under way at a time."""
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(self._executor.submit(function, item))
            if len(pending) >= 3 * self.workers:
                yield self._result(pending.popleft())
        while pending:
            yield self._result(pending.popleft())

    def _result(self, future: Future[R]) -> R:
        try:
            result: R = future.result()
        except BrokenProcessPool as error:  # loky's TerminatedWorkerError is one
            raise WorkerDied(
                f"a worker process ended unexpectedly ({str(error).splitlines()[0]}). If memory ran out, try fewer "
                "--workers; if the runtime itself crashed, another --runtime, such as paddle."
            ) from error
        return result
