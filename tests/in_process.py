"""A worker process that is this process, so that tests can replace what it calls; many commands in one process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warm import WarmCommands

Outcomes = dict[str, tuple[int, str, str]]  # of commands: exit code, output and errors
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from in_process import main; sys.exit(main())"


def run_in_one_process(
    commands: Mapping[str, Sequence[str]], folders: Mapping[str, Path], scratch: Path,
    environment: Mapping[str, str] | None = None,
) -> Outcomes:  # fmt: skip
    """Carry out commands one after another in one new process, each in its folder: to import Paddle takes seconds.

    `scratch` is a folder that is used meanwhile.
    """
    listed = _listed(commands, folders, scratch)
    words = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent), str(listed)]
    process = subprocess.run(
        words, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return _outcomes(listed)


def run_in_one_copy(
    commands: Mapping[str, Sequence[str]], folders: Mapping[str, Path], scratch: Path, warm_commands: WarmCommands
) -> Outcomes:
    """Do the same in a copy of a process that has imported Paddle, as have its workers."""
    listed = _listed(commands, folders, scratch)
    assert warm_commands.run([str(listed)], program="in_process").returncode == 0
    return _outcomes(listed)


def _listed(commands: Mapping[str, Sequence[str]], folders: Mapping[str, Path], scratch: Path) -> Path:
    listed = scratch / "commands.json"
    listed.write_text(json.dumps({case: (list(words), str(folders[case])) for case, words in commands.items()}))
    return listed


def _outcomes(listed: Path) -> Outcomes:
    outcomes: dict[str, Any] = json.loads(listed.with_name("outcomes.json").read_text())
    return {case: (code, out, err) for case, (code, out, err) in outcomes.items()}


def main() -> int:
    """Carry out the commands of a file, and write the outcomes beside it."""
    from mobilenext.cli import main as command

    listed, outcomes = Path(sys.argv[1]), {}
    for case, (words, folder) in json.loads(listed.read_text()).items():
        os.chdir(folder)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command(words)
        outcomes[case] = code, out.getvalue(), err.getvalue()
    listed.with_name("outcomes.json").write_text(json.dumps(outcomes))
    return 0


class Here:
    """In place of ``WorkerPool``."""

    def __init__(self, *arguments: Any) -> None: ...

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *arguments: object) -> None: ...

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def start(self, function: Any, *arguments: Any) -> Any:
        return partial(function, *arguments)

    def call_watched(self, function: Any, *arguments: Any, scratch: Path, progress: Any) -> Any:
        return function(*arguments, progress or (lambda done, total: None))


class Pool(Here):
    """A pool of one worker that is this process."""

    workers = 1

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def begin(self, function: Any) -> None: ...

    def map(self, function: Any, items: Any) -> Any:
        return map(function, items)
