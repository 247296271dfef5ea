"""Worker processes as copies of a process that has imported Paddle, in place of those that loky starts.

loky executes Python for every worker, which imports Paddle for seconds before its first call. Here a server, which has
imported it, has one thread and has computed nothing, makes a copy of itself instead; the copy then does what loky's
program for workers does, with the words, descriptors, environment, folder and signals that it would have had.

A worker has to be a child of the process that asks for it, which waits for its end and which it watches. The server
therefore forks twice and the process in between ends: its child is handed to the nearest process above that adopts
orphans (prctl(2), PR_SET_CHILD_SUBREAPER), and while a worker is started that is the process which asks.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import importlib
import json
import multiprocessing.context
import os
import runpy
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from loky.backend import context as loky_context
from loky.backend import fork_exec as loky_start

from mobilenext.machine.process_environment import compute_environment

WORKER = "loky.backend.popen_loky_posix"
_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
# What libraries read when they are loaded. A worker with other values is started as loky does it.
_READ_ONCE = ("OMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "MALLOC_", "LD_", "FLAGS_", "GLOG_")

# scikit-learn imports joblib, whose copy of loky then takes the place of loky in all pools of the process, and would
# start their workers by itself. It does so once, when it is imported.
with contextlib.suppress(ImportError):
    importlib.import_module("joblib.externals.loky")
    multiprocessing.context._concrete_contexts["loky"] = loky_context.ctx_loky  # type: ignore[attr-defined]

Start = Callable[[Sequence[str], Sequence[int], Mapping[str, str] | None], int]
start_afresh: Start = loky_start.fork_exec
_libc = ctypes.CDLL(None)


def starter(connect: Callable[[], socket.socket]) -> Start:
    """Return what starts workers in place of loky's; `connect` returns the socket to the server, at each worker."""
    lock = threading.Lock()

    def start(words: Sequence[str], kept: Sequence[int], env: Mapping[str, str] | None = None) -> int:
        environment = {**os.environ, **(env or {})}
        if WORKER not in words or not _suits(environment) or not all(map(_is_open, range(3))):
            return start_afresh(words, kept, env)
        with lock:
            return _ask(connect(), words, sorted({0, 1, 2, *map(int, kept)}), environment)

    return start


def _suits(environment: Mapping[str, str]) -> bool:
    known = compute_environment(1)
    return all(
        value in (known.get(name), _AT_FIRST.get(name))
        for name, value in environment.items()
        if name.startswith(_READ_ONCE)
    )


_AT_FIRST = dict(os.environ)


def _is_open(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def _ask(requests: socket.socket, words: Sequence[str], kept: Sequence[int], environment: Mapping[str, str]) -> int:
    """Start a worker; the number of its process, which is a child of this one."""
    request = {
        "worker": list(words),
        "descriptors": list(kept),
        "environment": dict(environment),
        "folder": os.getcwd(),  # noqa: PTH109 - as text
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "ignored": [int(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],
    }
    _libc.prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    try:
        socket.send_fds(requests, [json.dumps(request).encode()], kept)
        return int(requests.recv(64))
    finally:
        _libc.prctl(_ADOPT_ORPHANS, 0, 0, 0, 0)


# --- The server ------------------------------------------------------------------------------------------------------


def fork_server() -> socket.socket:
    """Fork this process, which has one thread; the copy makes workers until this process has ended."""
    requests, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        there.close()
        return requests
    requests.close()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # to the group; the end of the command is its end
        signal.signal(number, signal.SIG_IGN)
    while True:
        text, descriptors, _, _ = socket.recv_fds(there, 1 << 20, 64)
        if not text:
            os._exit(0)
        make_worker(there, json.loads(text), descriptors)


def make_worker(requests: socket.socket, request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Make one worker, and tell the number of its process."""
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        middle = os.getpid()
        worker = os.fork()
        if worker:
            os.write(writer, str(worker).encode())
            os._exit(0)
        requests.close()
        while os.getppid() == middle:
            time.sleep(0.001)
        _become(request, descriptors)
    os.waitpid(middle, 0)  # only now the worker has its parent, which does not adopt orphans for longer than it has to
    requests.send(os.read(reader, 64))
    for number in (reader, writer, *descriptors):
        os.close(number)


def _become(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Be a worker, to its end."""
    above = max(*descriptors, *request["descriptors"]) + 1
    high = [fcntl.fcntl(number, fcntl.F_DUPFD, above) for number in descriptors]
    os.closerange(3, above)
    for number, descriptor in zip(high, request["descriptors"], strict=True):
        os.dup2(number, descriptor)
        os.close(number)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    words = request["worker"]
    sys.argv = [WORKER, *words[words.index(WORKER) + 1 :]]
    code: Any = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, on a module that is imported already
        try:
            runpy.run_module(WORKER, run_name="__main__", alter_sys=False)
        except SystemExit as end:
            code = end.code
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)
