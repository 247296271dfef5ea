"""Worker processes that keep the order: what goes in comes out, once each, in the same order, or an error says why.

There is no shared memory and no silent replacement; a worker that dies ends the run. Processes are started afresh
(not forked, which Paddle does not survive) and do not import the caller's main module, so a script needs no guard.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from loky import cpu_count, process_executor
from loky.backend import resource_tracker
from loky.process_executor import ProcessPoolExecutor

from mobilenext.errors import OutputError, WorkerDied
from mobilenext.machine.stopping import GROUP_SIGNALS, blocked
from mobilenext.machine.temporary import scratch_folder, worker_environment

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """Cores that this process may use, by its affinity and by a container's quota."""
    return int(cpu_count())


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, even if that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextlib.contextmanager
def watched_scratch_folder(output: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A scratch folder that goes even when this process is killed: loky's tracker outlives it and removes it then."""
    with scratch_folder(output) as folder:
        with blocked(GROUP_SIGNALS):  # which the tracker then never gets
            resource_tracker.register(str(folder), "folder")
        try:
            yield folder
        finally:
            resource_tracker.unregister(str(folder), "folder")


def _start(parent: int, pool: str, threads: int | None) -> None:
    """Run first in every worker: end with the parent, and with `threads` claim so many cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the others of a group, which were blocked when it was started
    # Where psutil is installed loky would replace a process that has grown by 300 MB, and what it has opened with it.
    process_executor._USE_PSUTIL = False
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if threads is not None and hasattr(os, "sched_setaffinity"):
        _claim_cores(pool, threads)


def _claim_cores(pool: str, threads: int) -> None:
    """Take so many cores for oneself; where all are taken, share them.

    Some inference engines bind themselves to the first cores that they may use, so that two processes of one thread
    share one core while the other is idle. A worker that may use its own cores only cannot be bound to another's.
    """
    cores = sorted(os.sched_getaffinity(0))
    slots = len(cores) // threads
    for number in range(slots):
        # Containers with a quota see all cores and may use a few: not everybody should begin with the first.
        slot = (int(pool, 16) + number) % slots
        # One process only can bind a name, and it is free again when that has ended, in whatever way. No file is made:
        # a name that begins with a zero byte is one in the kernel (unix(7), abstract sockets).
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0mobilenext-{pool}-{slot}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # it stays open as long as this process lives
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
        try:
            with blocked(GROUP_SIGNALS):
                self._executor = ProcessPoolExecutor(
                    max_workers=workers,
                    initializer=_start,
                    initargs=(os.getpid(), secrets.token_hex(8), threads),
                    env={**worker_environment(), **(environment or {})},
                )
        except (OSError, ImportError) as error:  # ImportError: this Python has no semaphores at all
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"worker processes cannot be started: the system keeps their semaphores in /dev/shm ({reason}); let it "
                "be a file system that this user can write to, such as a tmpfs"
            ) from error

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # After an error or Ctrl-C nothing that the workers still do is of use.
        self._executor.shutdown(wait=True, kill_workers=error is not None)

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Run one call in a worker and wait for it. Exceptions come back as they were raised."""
        with _deaths():
            result: R = self._submit(function, *arguments).result()
        return result

    def _submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Hand a call on. Workers are started here: signals of their group are the parent's to answer."""
        with blocked(GROUP_SIGNALS):
            future: Future[R] = self._executor.submit(function, *arguments)
        return future

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results in the order of `items`; at most three calls for each worker are under way at a time."""
        pending: deque[Future[R]] = deque()
        with _deaths():
            for item in items:
                pending.append(self._submit(function, item))
                if len(pending) >= 3 * self.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


@contextlib.contextmanager
def _deaths() -> Iterator[None]:
    """A worker that died makes the call that waits fail, or the next one: as WorkerDied, which says what to do."""
    try:
        yield
    except BrokenProcessPool as error:  # loky's TerminatedWorkerError is one
        signals = re.search(r"\{(.+)\}", str(error))
        how = signals[1] if signals else str(error).splitlines()[0]
        raise WorkerDied(
            f"a worker process ended unexpectedly ({how}). SIGKILL mostly means that memory ran out: try fewer "
            "--workers. Other signals are a crash of the runtime: try another --runtime, such as paddle."
        ) from error
