"""What came of the steps of a chain."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from chain.plan import Step
from mobilenext.origin import now
from mobilenext.tipc.config import Config

log = logging.getLogger(__name__)
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
# Steps that the driver adds to those of a plan.
PREPARE, PREDICT, EVALUATE, COMPARE = "prepare", "predict", "evaluate", "compare"
SUMMARY = "summary.json"


@dataclass
class Outcome:
    """What came of one step."""

    kind: str
    command: str
    log: Path
    status: str  # passed | failed | not run
    seconds: float = 0.0
    message: str = ""  # what the check found, or what is wrong
    step: Step | None = None  # of the plan; None where the driver added it

    def fail(self, message: str) -> None:
        self.status, self.message = FAILED, message

    def report(self) -> None:
        """Log one line."""
        log.info("%-8s %-8s %6.1f s  %s", self.kind, self.status, self.seconds, self.message)


@dataclass
class Chain:
    """A run of a configuration in a mode."""

    config: Config
    mode: str
    output: Path
    keep_going: bool
    timeout: float | None
    started: str = field(default_factory=now)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(outcome.status == PASSED for outcome in self.outcomes)
