"""Standard streams that are closed, full or gone, as shells, cron and supervisors leave them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobilenext.cli import main
from mobilenext.machine.captured import captured_output

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a line of shell, in which $M is the command; never a traceback."""

    def run(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = f"M='{sys.executable} -m mobilenext'; {line}"
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
            env={**os.environ, **variables},
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert "Exception ignored" not in done.stderr, done.stderr
        return done

    return run


@FULL
@pytest.mark.parametrize("words", ["list", "list --json", "recipes", "--help", "evaluate --help", "--version"])
def test_a_full_device_is_an_error(shell: Any, words: str) -> None:
    done = shell(f"$M {words} > /dev/full")
    assert done.returncode == 3
    assert done.stderr == "mobilenext: standard output cannot be written: No space left on device\n"


@FULL
def test_other_errors_keep_their_exit_code(shell: Any) -> None:
    assert shell("$M recipes no-such-recipe > /dev/full").returncode == 2
    assert shell("$M no-such-verb > /dev/full").returncode == 2
    assert shell("$M recipes no-such-recipe 2> /dev/full").returncode == 2, "not 120, which a full stderr would make"


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(shell: Any, closed: str) -> None:
    done = shell(f"$M recipes {closed}")
    assert done.returncode == 0
    assert bool(done.stdout) is (">&-" not in closed.replace("2>&-", ""))
    said = "mobilenext: standard output is closed: results are not printed\n"
    assert done.stderr == (said if closed == ">&-" else "")
    assert shell(f"$M recipes no-such-recipe {closed}").returncode == 2


def test_a_closed_stream_is_no_file_that_is_written(shell: Any, tmp_path: Path) -> None:
    """The first file that is opened would get the number of the closed stream, and with it what libraries print."""
    program = (
        "import os, sys; from pathlib import Path; from mobilenext import files;"
        "from mobilenext.machine import command; noise = 'echo x; echo x >&2';"
        "sys.exit(command.guarded(lambda: files.write_atomically(Path('file'), b'whole') or os.system(noise)))"
    )
    done = shell(f'{sys.executable} -c "$PROGRAM" <&- >&- 2>&-', PROGRAM=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("words", ["list", "list --json", "--help"])
def test_a_reader_that_has_gone(shell: Any, words: str) -> None:
    done = shell(f"$M {words} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_that_does_not_block(shell: Any) -> None:
    """As the other end of a pipe may have set it; more than a pipe holds is printed."""
    line = (
        "import os, subprocess, sys, time; r, w = os.pipe(); os.set_blocking(w, False); "
        "p = subprocess.Popen([sys.executable, '-c', 'from mobilenext.machine.streams import *; open_streams(); "
        'print("x" * 300000)\'], stdout=w); os.close(w); time.sleep(1); '
        "print(len(open(r).read())); sys.exit(p.wait())"
    )
    done = shell(f'{sys.executable} -c "$LINE"', LINE=line)
    assert (done.returncode, done.stdout) == (0, "300001\n"), done.stderr


def test_a_terminal_that_has_gone() -> None:
    """Writing to it is an input/output error."""
    controller, terminal = os.openpty()
    program = "import time, sys\nfrom mobilenext.cli import main\ntime.sleep(1)\nsys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "recipes", "no-such-recipe"], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    os.close(controller)
    assert process.wait(300) == 2


def test_the_c_locale(shell: Any) -> None:
    for locale in ("C", "POSIX"):
        done = shell("$M list", LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (done.returncode, done.stderr) == (0, "")


def test_streams_that_python_has_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a program without a console they are None."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["list"]) == 0
    assert main(["recipes", "no-such-recipe"]) == 2
    sys.stdout.close()
    sys.stderr.close()


def test_captured_without_a_temporary_folder_and_with_closed_streams() -> None:
    program = (
        "import os, json\n"
        "from mobilenext.machine.captured import captured_output\n"
        "results = os.dup(1)\n"
        "os.close(0); os.close(1)\n"
        "with captured_output() as said:\n"
        "    os.write(1, b'from C')\n"
        "    os.system('echo from a program')\n"
        "os.write(results, json.dumps(said).encode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "TMPDIR": "/nonexistent"},
    )  # fmt: skip
    assert json.loads(done.stdout) == ["from Cfrom a program\n"], done.stderr


def test_what_python_prints_is_captured_whatever_its_streams_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's or a test's `sys.stderr` is no descriptor 2."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with captured_output() as said:
        print("[INFO] ONNX model saved")
        print("to standard error", file=sys.stderr)
    print("afterwards")
    assert said == ["[INFO] ONNX model saved\nto standard error\n"]
    assert stream.getvalue() == "afterwards\n"


def test_what_is_captured_does_not_appear(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output() as said:
        os.write(1, b"one ")
        os.write(2, b"two")
    os.write(1, b"three")
    assert said == ["one two"]
    assert capfd.readouterr().out == "three"
