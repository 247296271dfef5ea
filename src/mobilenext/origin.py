"""When a result was made, and by which command: three fields that every result carries."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 writes it: 2026-11-27T03:17:54Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line() -> str:
    """The command of this process as a shell would take it; of a program that imports the package, that program's."""
    program, *arguments = sys.orig_argv[:1] if not sys.argv or not sys.argv[0] else sys.argv
    name = Path(program).name
    return shlex.join(["mobilenext" if name == "__main__.py" else name, *arguments])


_IMPORTED = now()


def origin(started: str | None = None) -> dict[str, str]:
    """``started``, ``finished`` (now) and ``command``.

    Args:
        started: of :func:`now`, when the work began; None: with this process, as near as this module knows.
    """
    return {"started": started or _IMPORTED, "finished": now(), "command": command_line()}
