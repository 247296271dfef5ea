"""A run that is asked to stop does so between two steps, with a checkpoint."""

from __future__ import annotations

import logging
import signal
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """The run has stopped because a signal asked for it; ``str(stopped)`` says where, and how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """While it is entered, Ctrl-C and SIGTERM are remembered in ``number`` (0: none); a second one acts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            try:
                signal.signal(number, self._remember)
            except ValueError:  # not the main thread: signals are somebody else's
                break
            self._before[number] = before
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[number])
        log.info("stopping after this step; once more stops at once")
