"""Commands as copies of one process that has imported Paddle: to import it takes longer than most commands.

A copy is made while the process has one thread and Paddle has computed nothing. It has the command's words, folder,
environment and streams and a session of its own, and ends as the installed command does.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import warm_workers
from mobilenext.machine.process_environment import FAST_PROCESS
from written_once import writing_once

_TESTS = Path(__file__).parent
_IMPORTED = (
    *("mobilenext.classification.training", "mobilenext.training.loop", "mobilenext.training.outcome"),
    *("mobilenext.detection.task", "mobilenext.evaluation.run", "mobilenext.exporting", "mobilenext.tipc.adapter"),
)
_IMPORTED_IF_INSTALLED = ("onnx", "paddle2onnx", "sklearn.datasets", "fastapi", "jinja2")  # two seconds, most of them
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WarmProcess:
    """One command; what of ``subprocess.Popen`` the tests use. Its process' parent hands on its exit code."""

    def __init__(self, words: Sequence[str], stdout: int, stderr: int, status: int) -> None:
        self.args = list(words)
        self.stdout, self.stderr = (os.fdopen(descriptor, encoding="utf-8") for descriptor in (stdout, stderr))
        with os.fdopen(os.dup(status)) as lines:
            self.pid = int(lines.readline())
        self._status = status
        self.returncode: int | None = None
        self._readers: list[threading.Thread] = []
        self._texts = ["", ""]

    def poll(self) -> int | None:
        """Return the exit code; None as long as it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code."""
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with os.fdopen(self._status) as lines:
                self.returncode = int(lines.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what is left of its output and of its errors."""
        if not self._readers:
            self._readers = [threading.Thread(target=self._read, args=(number,), daemon=True) for number in (0, 1)]
            for reader in self._readers:
                reader.start()
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():  # a child of the command has its streams
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.stdout.close()
        self.stderr.close()
        return self._texts[0], self._texts[1]

    def _read(self, number: int) -> None:
        self._texts[number] = (self.stdout, self.stderr)[number].read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """End it and all that it has started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


class WarmCommands:
    """Start ``mobilenext`` in copies of one process.

    Paddle's libraries read variables of the environment when they are imported: those of a command that prepares its
    process for itself are set there.

    Args:
        prefix: words of a program that starts the process, such as one that makes it another user's.
        kernels: whether it loads the compiled loops of training, too.
        files_of_networks: where files that converters have written are kept for the next command (`written_once`).
    """

    def __init__(
        self, prefix: Sequence[str] = (), *, kernels: bool = True, files_of_networks: Path | None = None
    ) -> None:
        self._prefix, self._kernels, self._files_of_networks = prefix, kernels, files_of_networks
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def requests(self) -> socket.socket:
        """The socket for requests; the process starts with the first. Those for workers are answered there."""
        if self._process is None:
            self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            path = os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))
            files = self._files_of_networks and str(self._files_of_networks)
            code = f"from warm import serve; serve({requests.fileno()}, {self._kernels}, {files!r})"
            with requests:
                self._process = subprocess.Popen(
                    [*self._prefix, sys.executable, "-c", code],
                    env={**os.environ, **FAST_PROCESS, **ONE_THREAD, "PYTHONPATH": path},
                    pass_fds=[requests.fileno()],
                    start_new_session=True,
                    # A job in the background is started with SIGINT ignored, and its children would be too.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
        return self._requests

    def close(self) -> None:
        if self._process is not None:
            self._requests.close()
            self._process.wait()

    def start(
        self,
        words: Sequence[str],
        cwd: Path | None = None,
        program: str = "mobilenext.cli",
        environment: Mapping[str, str] | None = None,
    ) -> WarmProcess:
        """Start a command without an input; `program` is the module of its ``main``, `environment` all of its own."""
        pipes = [os.pipe() for _ in range(3)]
        environment = os.environ if environment is None else environment
        self._send(words, cwd or Path.cwd(), program, environment, [there for _, there in pipes])
        for _, there in pipes:
            os.close(there)
        return WarmProcess(words, *(here for here, _ in pipes))

    def carry_out(
        self, words: Sequence[str], cwd: Path, program: str, environment: Mapping[str, str], streams: tuple[int, int]
    ) -> int:
        """Carry out a command whose output and errors go to two open files; its exit code."""
        status, there = os.pipe()
        self._send(words, cwd, program, environment, [*streams, there])
        os.close(there)
        with os.fdopen(status) as lines:
            _, code = lines.read().split()
        return int(code)

    def _send(
        self, words: Sequence[str], cwd: Path, program: str, environment: Mapping[str, str], files: Sequence[int]
    ) -> None:
        request = {"program": program, "words": list(words), "folder": str(cwd), "environment": dict(environment)}
        socket.send_fds(self.requests, [json.dumps(request).encode()], files)

    def run(
        self,
        words: Sequence[str],
        cwd: Path | None = None,
        *,
        program: str = "mobilenext.cli",
        environment: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Carry out a command; it must never print a traceback."""
        process = self.start(words, cwd, program, environment)
        try:
            stdout, stderr = process.communicate(timeout)
        finally:
            process.kill_group()
        assert "Traceback" not in stderr, stderr
        return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)


def serve(descriptor: int, kernels: bool, files_of_networks: str | None) -> NoReturn:
    """Carry out the commands that come from a socket, until it is closed."""
    while "" in sys.path:
        sys.path.remove("")  # the working folder, which the installed command does not search
    of_paddle = _import()
    if kernels:
        load_kernels()
    patches = contextlib.ExitStack()  # to the end of this process
    if files_of_networks:
        patches.enter_context(writing_once(Path(files_of_networks)))
    latency = importlib.import_module("mobilenext.evaluation.latency")
    latency.measure_latency.__defaults__ = (1,)  # as few runs as it takes; evaluations in pytest's process take all
    assert _threads() == of_paddle
    with socket.socket(fileno=descriptor) as requests:
        while True:
            text, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 64)
            if not text:
                os._exit(0)  # as the commands end
            request = json.loads(text)
            if "worker" in request:
                warm_workers.make_worker(requests, request, descriptors)
                continue
            if not os.fork():
                requests.close()
                _watch(request, *descriptors)
            for number in descriptors:
                os.close(number)
            while _ended():
                pass


def _ended() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 1


def _import() -> int:
    """Import what most commands do; not ONNX Runtime, nor Vega, which start threads that a copy would not have.

    Returns:
        The threads after the import of Paddle: 1, and one more with Paddle 2.6, which a copy can do without.
    """
    import warnings

    warnings.filterwarnings("ignore", message="No ccache found")
    importlib.import_module("paddle")
    threads = _threads()
    for name in _IMPORTED:
        importlib.import_module(name)
    for name in _IMPORTED_IF_INSTALLED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    warnings.resetwarnings()
    return threads


def load_kernels() -> None:
    """Have the compiled loops of training in memory, which takes a second, or most of a minute for the first time.

    They are called with arrays, of the types that training calls them with, for Paddle is not to compute here.
    """
    import numpy as np

    from mobilenext.training import batch_norm_kernels, batch_norm_small_maps, depthwise_kernels, depthwise_small_maps
    from mobilenext.training.pointwise_kernels import put_apart, put_side_by_side

    def zeros(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(np.zeros(shape, np.float32) for shape in shapes)

    image, taps, maps, channels = (1, 1, 4, 4), (1, 1, 3, 3), (1, 1, 16), (1,)
    limits = (np.float32(0), np.float32(6))
    for depthwise in (depthwise_kernels, depthwise_small_maps):
        depthwise.convolve(zeros(image, taps, image), (1, 1, 1, 1), 0, 1)
        depthwise.differentiate(zeros(image, taps, image, image, taps), (1, 1, 1, 1), 0, 1)
    for norm in (batch_norm_kernels, batch_norm_small_maps):
        arrays = zeros(maps, channels, channels, maps, (2, 1), channels, channels)
        norm.normalize(arrays, (0.9, 1e-5, *limits), 0, 1)
        norm.differentiate(zeros(maps, channels, channels, (2, 1), maps, maps, channels, channels), limits, 0, 1)
    for put in (put_side_by_side, put_apart):
        put(zeros(maps, maps), (), 0, 1)


def _watch(command: dict[str, Any], stdout: int, stderr: int, status: int) -> NoReturn:
    """Be the parent of a command: tell its number, and its exit code."""
    process = os.fork()
    if not process:
        os.close(status)
        _become(command, stdout, stderr)
    for number in (1, 2, stdout, stderr):
        os.close(number)
    os.write(status, f"{process}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.write(status, f"{code}\n".encode())
    os._exit(0)


def _become(command: dict[str, Any], stdout: int, stderr: int) -> NoReturn:
    """Be the process of a command, to its end."""
    main = importlib.import_module(command["program"]).main
    os.setsid()
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update({**FAST_PROCESS, **ONE_THREAD, **command["environment"]})  # MKL reads them at its first call
    os.chdir(command["folder"])
    sys.argv = ["mobilenext", *command["words"]]
    workers = warm_workers.fork_server()
    warm_workers.loky_start.fork_exec = warm_workers.starter(lambda: workers)
    if "train" in command["words"][:1]:
        sys.modules["vl_convert"] = None  # type: ignore[assignment]  # as if not installed: curves take two seconds
    code = main()
    # What the interpreter does at its end, but to take Paddle's modules apart, which takes half a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
