"""Worker processes that keep the order: one result for each item, in the order of the items, or an error.

There is no shared memory and no silent replacement; a worker that dies ends the run. Processes are started afresh: a
forked one would have Paddle's threads in its memory but not running, and hang. They do not import the caller's main
module, so that a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from loky import process_executor
from loky.backend import resource_tracker
from loky.process_executor import ProcessPoolExecutor

from mobilenext.errors import OutputError, WorkerDied
from mobilenext.machine.late_imports import import_late
from mobilenext.machine.ranks import launched_here
from mobilenext.machine.stopping import GROUP_SIGNALS, block_signals
from mobilenext.machine.temporary import scratch_folder, worker_environment

T = TypeVar("T")
R = TypeVar("R")
_LOOK_S = 0.2  # between two looks at how far a call is


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, even if that was killed."""
    # A killed parent tells nobody. Its children get another parent (init), so the parent's number is looked at. Linux'
    # PR_SET_PDEATHSIG would do without a thread, but watches the thread that started us, not the process.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # no cleaning up: other threads may be inside a library that does not come back


@contextlib.contextmanager
def watched_scratch_folder(output: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Make a scratch folder that is removed even if this process is killed: loky's tracker outlives it."""
    with scratch_folder(output) as folder:
        # The tracker is a process that this call may start. It inherits the mask, so that a signal to all processes of
        # the command, such as SIGHUP from a terminal that goes away, does not end it before it has removed the folder.
        with block_signals(GROUP_SIGNALS):
            resource_tracker.register(str(folder), "folder")
        try:
            yield folder
        finally:
            resource_tracker.unregister(str(folder), "folder")


def _start(parent: int, pool: str, threads: int | None) -> None:
    """Prepare a worker: it ends with its parent and, with `threads`, claims that number of cores."""
    # The parent answers the signals of the group and ends its workers in good order. All of them were blocked when this
    # process was started (`WorkerPool._submit`); Ctrl-C is ignored as well, should a library change the mask.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where psutil is installed loky would replace a process that has grown by 300 MB, and what it has opened with it.
    process_executor._USE_PSUTIL = False
    import_late()
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if threads is not None and hasattr(os, "sched_setaffinity"):
        _claim_cores(pool, threads)


def _name_of_claims() -> str:
    """Return a number, in hexadecimal, that no other pool has but those of the same launcher on this machine.

    With numbers of their own, workers of two launched processes would bind themselves to the same core.
    """
    if launched_here() > 1:
        return hashlib.sha256(os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").encode()).hexdigest()[:16]
    return secrets.token_hex(8)


def _claim_cores(pool: str, threads: int) -> None:
    """Bind this process to that number of cores which no other worker of `pool` has; if all are taken, stay unbound.

    Some inference engines bind themselves to the first cores that they may use, so that two processes of one thread
    share one core while the other is idle. A worker that may use its own cores only cannot be bound to another's.
    """
    cores = sorted(os.sched_getaffinity(0))
    slots = len(cores) // threads
    for number in range(slots):
        # Containers with a quota see all cores and may use a few. If each pool began with the first core, the pools of
        # several containers would share that one: a random number per pool says where to begin.
        slot = (int(pool, 16) + number) % slots
        # The claim is a socket's name: only one process can bind it, and the kernel frees it when that process ends, in
        # whatever way. A name that begins with a zero byte is no file (unix(7), abstract sockets).
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0mobilenext-{pool}-{slot}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # Python would close it with the object; it stays open as long as this process lives
        os.sched_setaffinity(0, cores[slot * threads : (slot + 1) * threads])
        return


class Report:
    """How far a call in a worker is: it writes two numbers into a file, and the process that waits reads them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path  # None: nobody wants to know

    def __call__(self, done: int, total: int) -> None:
        """Tell how much is done, and how much there is to do in all."""
        if self._path is not None:
            self._path.write_text(f"{done} {total}")

    def read(self) -> tuple[int, int] | None:
        """Return what was told last; None where that is nothing yet, or just being written."""
        with contextlib.suppress(OSError, ValueError):
            done, total = map(int, self._path.read_text().split() if self._path is not None else ())
            return done, total
        return None


class WorkerPool:
    """A context manager over `workers` processes, each with `environment` added to the caller's.

    With `threads`, each process is bound to that many cores of its own, as long as there are cores left. With `idle_s`,
    a process that has had nothing to do for so many seconds ends and frees its memory; the next call starts another.
    """

    def __init__(
        self,
        workers: int,
        environment: Mapping[str, str] | None = None,
        *,
        threads: int | None = None,
        idle_s: float | None = None,
    ) -> None:
        self.workers = workers
        try:
            with block_signals(GROUP_SIGNALS):
                self._executor = ProcessPoolExecutor(
                    max_workers=workers,
                    timeout=idle_s,
                    initializer=_start,
                    initargs=(os.getpid(), _name_of_claims(), threads),
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
        # All results that are wanted have come, so the workers are killed: one with Paddle takes a second to end.
        self._executor.shutdown(wait=True, kill_workers=True)

    def begin(self, function: Callable[[], object]) -> None:
        """Start the processes and let each call `function`, without waiting for them."""
        for _ in range(self.workers):
            self._submit(function)

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Run one call in a worker and return its result. Exceptions come back as they were raised."""
        return self.start(function, *arguments)()

    def start(self, function: Callable[..., R], *arguments: Any) -> Callable[[], R]:
        """Begin one call in a worker; return a function that waits for it, and does as `call` does."""
        with _deaths():  # an earlier call's, too
            future = self._submit(function, *arguments)

        def result() -> R:
            with _deaths():
                return future.result()

        return result

    def call_watched(
        self, function: Callable[..., R], *arguments: Any, scratch: Path, progress: Callable[[int, int], None] | None
    ) -> R:
        """Run one call in a worker, which gets a `Report` as its last argument, and pass on what it reports.

        Args:
            function: what is called.
            arguments: of it, before the report.
            scratch: a folder for temporary files.
            progress: is called with the work done and the work in all; None: nobody is told.
        """
        report = Report(None if progress is None else scratch / "progress")
        with _deaths():
            future = self._submit(function, *arguments, report)
            while progress is not None and not wait([future], timeout=_LOOK_S).done:
                if numbers := report.read():
                    progress(*numbers)
            return future.result()

    def _submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Hand a call to the workers, with signals blocked."""
        # The executor starts its processes with the first calls, and a new process inherits the mask of this thread:
        # workers never get the signals that a terminal sends to the whole group.
        with block_signals(GROUP_SIGNALS):
            future: Future[R] = self._executor.submit(function, *arguments)
        return future

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results in the order of `items`."""
        pending: deque[Future[R]] = deque()
        with _deaths():
            for item in items:
                pending.append(self._submit(function, item))
                # Three calls for each worker: one that it works on and two that wait, so that no worker is idle while
                # the caller uses a result. More would only fill the memory with results that nobody has asked for.
                if len(pending) >= 3 * self.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


@contextlib.contextmanager
def _deaths() -> Iterator[None]:
    """Turn the death of a worker, which fails the call that waits or the next one, into WorkerDied with advice."""
    try:
        yield
    except BrokenProcessPool as error:  # loky's TerminatedWorkerError is one
        signals = re.search(r"\{(.+)\}", str(error))
        how = signals[1] if signals else str(error).splitlines()[0]
        raise WorkerDied(
            f"a worker process ended unexpectedly ({how}). SIGKILL mostly means that memory ran out: try fewer "
            "--workers. Other signals are a crash of the runtime: try another --runtime, such as paddle."
        ) from error
