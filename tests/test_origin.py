from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mobilenext.origin import command_line, now, origin


def test_the_time_is_utc_to_the_second() -> None:
    text = now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/usr/bin/mobilenext", "evaluate", "my photos", "-o", "runs/a"], "mobilenext evaluate 'my photos' -o runs/a"),
        (["/somewhere/mobilenext/__main__.py", "list"], "mobilenext list"),
        (["scripts/sweep.py", "--seeds", "3"], "sweep.py --seeds 3"),
    ],
)
def test_the_command(monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == expected
    assert shlex.split(command_line())[1:] == arguments[1:]


def test_an_interactive_session_is_called_by_its_interpreter() -> None:
    code = "from mobilenext.origin import command_line; print(command_line())"
    process = subprocess.run([sys.executable], input=code, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == Path(sys.executable).name


def test_a_result_is_dated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mobilenext", "info"])
    fields = origin("2026-01-01T00:00:00Z")
    assert list(fields) == ["started", "finished", "command"]
    assert fields["started"] < fields["finished"]
