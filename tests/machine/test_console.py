from __future__ import annotations

import io

import pytest

from mobilenext.machine import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_of_work_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images were there before; two more take 2 s each, and each of the other six will."""
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with console.progress_bar("correct") as progress:
        progress(2, 10, 1)
        for done in (3, 4):
            now[0] += 2.0
            progress(done, 10, 1)
        line = terminal.getvalue().split("\r")[-1]
    assert "4/10" in line
    assert "00:12" in line, "time left"
    assert "correct 25.00 %" in line


def test_no_bar_of_short_work_or_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with console.progress_bar() as progress:
        for done in range(4):
            progress(done, 3)
    assert terminal.getvalue() == ""
    monkeypatch.setattr("sys.stderr", plain := io.StringIO())
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 3)).__next__)
    with console.progress_bar() as progress:
        progress(0, 2)
        progress(2, 2)
    assert plain.getvalue() == ""
