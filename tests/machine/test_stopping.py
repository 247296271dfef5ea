"""Every signal that ends a process, sent to real ones, which use the package's machinery without Paddle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mobilenext.machine.stopping import STOP_SIGNALS, Stop, name_of, replaceable_signals

Program = tuple[subprocess.Popen[str], str]  # and its first line
Start = Callable[..., Program]

LIMIT = 300  # seconds; a process that would not end sleeps or works for longer, whatever else the machine does

# `work` holds a scratch folder, a worker process, an export's folder and a file that is being written.
PROGRAM = """
import sys, time
from pathlib import Path
from mobilenext.machine import command
def work():
    from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
    from mobilenext.machine.temporary import temporary_beside, temporary_folder
    out = Path(sys.argv[1])
    with watched_scratch_folder() as scratch, temporary_folder(temporary_beside(out / "exported")) as folder:
        (scratch / "file").write_text("x")
        (folder / "file").write_text("x")
        with WorkerPool(1) as pool:
            print(pool.call(make), flush=True)
            pool.call(time.sleep, 3600)
    return 0
def make():
    import os, tempfile
    tempfile.mkdtemp()
    return os.getpid()
sys.exit(command.guarded(work))
"""
SIMPLE = """
import sys, time
from mobilenext.machine import command
def work():
    from mobilenext.machine.temporary import scratch_folder
    with scratch_folder():
        try:
            print("there", flush=True)
            time.sleep(SECONDS)
        finally:
            time.sleep(CLEANING)
    return 0
sys.exit(command.guarded(work))
"""


@pytest.fixture(scope="module", autouse=True)
def signals_are_heard() -> Iterator[None]:
    """A shell makes its background jobs ignore two signals, and the programs of these tests would inherit that."""
    ignored = [number for number in (signal.SIGINT, signal.SIGQUIT) if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program that prints a line when it is at work."""
    with contextlib.ExitStack() as stack:

        def run(program: str, **options: Any) -> Program:
            process = stack.enter_context(_start(program, tmp_path, **options))
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, process.stdout.readline().strip()

        yield run


def _start(program: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "TMPDIR": str(folder / "tmp")}, **options,
    )  # fmt: skip


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for place in ("tmp", "out") for path in (folder / place).rglob("*"))


def sent(*names: str) -> list[int]:
    return [number for name in names if (number := getattr(signal, name, None))]


# One of each origin; that all are handled is another test's.
@pytest.mark.parametrize("number", sent("SIGHUP", "SIGTERM", "SIGUSR1", "SIGXCPU"), ids=name_of)
def test_a_signal_leaves_nothing(number: int, start: Start, tmp_path: Path) -> None:
    process, worker = start(PROGRAM)
    assert left(tmp_path) != []
    process.send_signal(number)
    _, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (128 + number, f"mobilenext: stopped by {name_of(number)}\n")
    assert left(tmp_path) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker), 0)


@pytest.mark.parametrize("number", sent("SIGHUP", "SIGQUIT"), ids=name_of)
def test_a_signal_to_the_whole_group(number: int, start: Start, tmp_path: Path) -> None:
    """As terminals send them: workers and what watches them leave it to the first process."""
    process, _ = start(PROGRAM)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (128 + number, f"mobilenext: stopped by {name_of(number)}\n")
    assert left(tmp_path) == []


ENDING = """
import os, signal
for number in sorted(signal.valid_signals()):
    if (child := os.fork()) == 0:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(0)
    status = os.waitpid(child, os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif os.WIFSIGNALED(status):
        print(number)
"""


def test_every_signal_that_ends_a_process_is_handled() -> None:
    """Which do so is asked of the system."""
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=LIMIT, check=True)
    faults = sent("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")  # of an instruction
    ignored = sent("SIGPIPE", "SIGXFSZ")  # by Python, always
    assert set(map(int, done.stdout.split())) - {*faults, *ignored} == set(STOP_SIGNALS)


def test_what_is_ignored_stays_ignored(start: Start, tmp_path: Path) -> None:
    """nohup has SIGHUP ignored, a shell SIGINT in what it starts in the background."""
    program = SIMPLE.replace("SECONDS", "2").replace("CLEANING", "0")
    process, _ = start(program, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT) == 0
    assert signal.SIGHUP in replaceable_signals()


def test_an_echo_is_no_second_wish(start: Start, tmp_path: Path) -> None:
    process, _ = start(SIMPLE.replace("SECONDS", "3600").replace("CLEANING", "1.5"))
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):  # `timeout` and systemd do this
        process.send_signal(number)
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT) == 143
    assert left(tmp_path) == []


def test_a_second_signal_ends_at_once(start: Start, tmp_path: Path) -> None:
    process, _ = start(SIMPLE.replace("SECONDS", "3600").replace("CLEANING", "3600"))
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT


def test_stop_says_which_signal() -> None:
    assert (Stop(signal.SIGHUP).code, str(Stop(signal.SIGHUP))) == (129, "stopped by SIGHUP")
    assert name_of(40) == "signal 40"
