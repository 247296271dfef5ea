"""Signals that end a process: the first one stops it in good order, a second one at once.

What can go wrong, and what is done here against it: a signal between two steps that belong together, such as making a
folder and noting that it must be removed (`defer_signals`); a signal to all processes of a command, which workers
would answer as well (`block_signals`); a library that replaces the handlers when it is imported (`keep_handlers`);
a second signal, which must end a process that hangs.

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
# Their default is not to end the process.
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
    """The request to stop, as the signal handler has noted it. A handler runs between any two instructions of the main
    thread, so it only sets fields and raises."""

    number = 0  # of the first signal
    first: float | None = None  # when it came (monotonic)
    deferred = 0  # how many `defer_signals` the main thread is inside of
    waiting = False  # the signal came inside one, and is raised at its end


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
    """Return a signal's name, such as ``SIGTERM``."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def is_second(number: int, first: float) -> bool:
    """Return whether a signal is a second request, and not an echo of the one at the time `first` (monotonic).

    ``timeout`` sends its signal to the command and to the command's group, a supervisor adds SIGHUP to SIGTERM, and a
    terminal that goes away sends SIGHUP twice, once by its shell.
    """
    return number != getattr(signal, "SIGHUP", None) and time.monotonic() - first > ECHO_S


def replaceable_signals() -> list[int]:
    """Return the STOP_SIGNALS that have no other handler and are not ignored, as SIGHUP is under nohup."""
    replaceable = (signal.SIG_DFL, signal.default_int_handler, _stop)
    return [number for number in STOP_SIGNALS if signal.getsignal(number) in replaceable]


def handle_signals() -> None:
    """Let a signal raise `Stop` (Ctrl-C: KeyboardInterrupt) in the main thread, and a second one end at once."""
    for number in replaceable_signals():
        signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    if _requests.first is None:
        _requests.number, _requests.first = number, time.monotonic()
        if _requests.deferred:
            _requests.waiting = True
        else:
            raise _exception(number)
    elif is_second(number, _requests.first):
        # Not sys.exit: the main thread may hang, or be in the middle of answering the first one. The default action
        # also gives the parent the exit status of a process that this signal has ended.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stop(number)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Let a first signal wait until the end: for steps that must not be separated, as making a folder and noting it."""
    if threading.current_thread() is not threading.main_thread():  # Python runs handlers in the main thread only
        yield
        return
    _requests.deferred += 1
    try:
        yield
    finally:
        _requests.deferred -= 1
        if _requests.waiting and not _requests.deferred:
            _requests.waiting = False
            raise _exception(_requests.number)


def first_signal() -> int:
    """Return the number of the signal that has asked this process to stop; 0: none has."""
    return _requests.number


def leave(code: int) -> NoReturn:
    """End this process without waiting for threads that are still at work, but run what is registered for the end."""
    # sys.exit would join all threads that are no daemons, such as one that decodes a huge image for a request that has
    # been given up, and take a fifth of a second to tear the modules down. os._exit skips the exit functions and the
    # flushing, so both are done here.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def block_signals(signals: Iterable[int]) -> Iterator[None]:
    """Block signals in this thread; processes and threads that are started inside inherit that, and never get them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def keep_handlers() -> Iterator[None]:
    """Import a library inside that has handlers of its own: Paddle takes SIGTERM for a crash to report on.

    A signal to this thread waits until the import is done. The kernel may hand it to a thread of the library instead,
    which runs whatever handler is set by then; so Python's handlers are set again with each module that is imported.
    """
    finder = _SetAgain()
    with defer_signals(), block_signals(STOP_SIGNALS):
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            finder.find_spec()


class _SetAgain:
    """An import hook that finds no module but is asked for each: it sets the handlers again that C++ replaced."""

    def find_spec(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in STOP_SIGNALS:
                handler = signal.getsignal(number)  # Python's own note of it: what the library sets does not show here
                if handler is not None:
                    signal.signal(number, handler)
