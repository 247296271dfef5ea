"""A chain's summary as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.drawing.markdown import table


def chain_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a table with a row for each step, and the count of successful commands."""
    rows = [[step["kind"], step["status"], f"{step['seconds']:.1f}", step["said"] or "-"] for step in summary["steps"]]
    verdict = "PASSED" if summary["passed"] else "FAILED"
    return [
        table(["step", "status", "s", "what was found"], rows),
        f"{verdict}: {summary['commands_passed']} of {summary['commands']} commands successful, "
        f"{summary['seconds']:.0f} s ({summary['layout']} layout, {summary['mode']})",
    ]
