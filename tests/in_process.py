"""A worker process that is this process, so that tests can replace what it calls; many commands in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COMMANDS = """
import contextlib, io, json, os, sys
from mobilenext.cli import main
done = {}
for case, (words, folder) in json.load(sys.stdin).items():
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    done[case] = code, out.getvalue(), err.getvalue()
print(json.dumps(done))
"""


def run_in_one_process(
    commands: Mapping[str, Sequence[str]], folders: Mapping[str, Path], environment: Mapping[str, str] | None = None
) -> dict[str, tuple[int, str, str]]:
    """Carry out commands one after another in one new process, each in its folder: to import Paddle takes seconds.

    Returns:
        The exit code, the output and the errors of each.
    """
    process = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        input=json.dumps({case: (list(words), str(folders[case])) for case, words in commands.items()}),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return {case: tuple(done) for case, done in json.loads(process.stdout).items()}


class Here:
    """In place of ``WorkerPool``."""

    def __init__(self, *arguments: Any) -> None: ...

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *arguments: object) -> None: ...

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def call_watched(self, function: Any, *arguments: Any, scratch: Path, progress: Any) -> Any:
        return function(*arguments, progress or (lambda done, total: None))


class Pool(Here):
    """A pool of one worker that is this process."""

    workers = 1

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def begin(self, function: Any) -> None: ...

    def map(self, function: Any, items: Any) -> Any:
        return map(function, items)
