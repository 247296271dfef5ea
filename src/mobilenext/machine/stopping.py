"""Signals that end a process: the first one stops it in good order, a second one at once.

Terminals, batch systems and supervisors each have their own: a terminal that goes away sends SIGHUP, Ctrl-\\ SIGQUIT,
Slurm SIGUSR1 or what it is told, a limit of processor time SIGXCPU, ``timeout`` whatever its user likes. All of them
count as SIGTERM does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import NoReturn

# The processor raises these for an instruction that would be repeated after the handler, for ever.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGEMT")
_NOT_ENDING = ("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGINFO")
_NOT_CATCHABLE = ("SIGKILL", "SIGSTOP")
_OF_PYTHON = ("SIGPIPE", "SIGXFSZ")  # it ignores them; the write that caused them fails
_OTHERS = {getattr(signal, name, None) for name in (*_FAULTS, *_NOT_ENDING, *_NOT_CATCHABLE, *_OF_PYTHON)}

STOP_SIGNALS = tuple(sorted(signal.valid_signals() - _OTHERS))
# Those that are sent to all processes of a command at once; a worker process leaves them to the command's first.
GROUP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPWR")
    if hasattr(signal, name)
)
ECHO_S = 1.0  # within this time a signal repeats the one before; see `is_second`


class _Requests:
    """What signals have asked of this process."""

    number = 0  # the first
    first: float | None = None  # when it came
    holds = 0
    waiting = False  # it came while stopping was held


_requests = _Requests()


class Stop(SystemExit):
    """A signal asks this process to end, with the exit code that a shell shows for it.

    Libraries that catch an exception may make another of its class, with a text of theirs: Paddle's compiler does.
    """

    def __init__(self, number: object = None) -> None:
        self.number = number if isinstance(number, int) else _requests.number
        super().__init__(128 + self.number)

    def __str__(self) -> str:
        return f"stopped by {name_of(self.number)}"


def name_of(number: int) -> str:
    """A signal's name: ``SIGTERM``."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def is_second(number: int, first: float) -> bool:
    """Whether a signal is a second wish, and not an echo of the one that came at the time `first` (monotonic).

    ``timeout`` sends its signal to the command and to the command's group, a supervisor adds SIGHUP to SIGTERM, and a
    terminal that goes away sends SIGHUP twice, once by its shell.
    """
    return number != getattr(signal, "SIGHUP", None) and time.monotonic() - first > ECHO_S


def replaceable_signals() -> list[int]:
    """The signals in STOP_SIGNALS that nobody else handles and nobody has had ignored, as nohup does with SIGHUP."""
    replaceable = (signal.SIG_DFL, signal.default_int_handler, _stop)
    return [number for number in STOP_SIGNALS if signal.getsignal(number) in replaceable]


def handle_signals() -> None:
    """From here on a signal raises `Stop` (Ctrl-C: KeyboardInterrupt) in the main thread; a second one ends at once."""
    for number in replaceable_signals():
        signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    if _requests.first is None:
        _requests.number, _requests.first = number, time.monotonic()
        if _requests.holds:
            _requests.waiting = True
        else:
            raise _exception(number)
    elif is_second(number, _requests.first):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stop(number)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Inside, a first signal waits: what is done here must not be cut in two, as making a folder and noting it down."""
    if threading.current_thread() is not threading.main_thread():  # no signal is raised here
        yield
        return
    _requests.holds += 1
    try:
        yield
    finally:
        _requests.holds -= 1
        if _requests.waiting and not _requests.holds:
            _requests.waiting = False
            raise _exception(_requests.number)


def first_signal() -> int:
    """The signal that has asked this process to stop; 0: none."""
    return _requests.number


def threads_at_work() -> bool:
    """Whether there are threads that Python would wait for at its end, for as long as they like."""
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def leave(code: int) -> NoReturn:
    """End this process without waiting for threads that are still at work; what Python does at its end is done."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def blocked(signals: Iterable[int]) -> Iterator[None]:
    """Inside, signals wait for this thread; processes and threads that are started here never get them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Import a library inside that has handlers of its own: Paddle takes SIGTERM for a crash to report on.

    A signal waits until the import is done. Threads of other libraries may get it nevertheless, so the handlers are
    set again with each module that the library imports.
    """
    finder = _SetAgain()
    with held(), blocked(STOP_SIGNALS):
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            finder.find_spec()


class _SetAgain:
    """Finds no module, but is asked for each; sets the handlers that Python knows, and C++ may have replaced."""

    def find_spec(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in STOP_SIGNALS:
                handler = signal.getsignal(number)
                if handler is not None:
                    signal.signal(number, handler)
