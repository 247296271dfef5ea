"""When a result was made, and by which command: three fields that every result carries."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601 writes it: 2026-11-27T03:17:54Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line() -> str:
    """Return the command of this process, quoted for a shell; if a program imports the package, its command."""
    program, *arguments = sys.orig_argv[:1] if not sys.argv or not sys.argv[0] else sys.argv
    name = Path(program).name
    return shlex.join(["mobilenext" if name == "__main__.py" else name, *arguments])


_IMPORTED = now()


def origin(started: str | None = None) -> dict[str, str]:
    """Return ``started``, ``finished`` (now) and ``command``.

    Args:
        started: of :func:`now`, when the work began; None: with this process, as near as this module knows.
    """
    return {"started": started or _IMPORTED, "finished": now(), "command": command_line()}
