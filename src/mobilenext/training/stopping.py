"""A run that is asked to stop does so between two steps, with a checkpoint."""

from __future__ import annotations

import logging
import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

from mobilenext.machine.stopping import is_second, name_of, replaceable_signals

log = logging.getLogger(__name__)


class StopRequest:
    """While it is entered, a signal is remembered in ``number`` (0: none); a second one acts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Ctrl-C and SIGTERM also where the program has its own handlers; these get a second one.
        always = {number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))}
        for number in sorted(always.union(replaceable_signals())):
            before = signal.getsignal(number)
            try:
                signal.signal(number, self._remember)
            except ValueError:  # not the main thread: signals are somebody else's
                break
            self._before[number] = before
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if not self.number:
            self.number, self._first = number, time.monotonic()
            log.info("%s: stopping after this step; once more stops at once", name_of(number))
        elif is_second(number, self._first):
            self._restore()
            os.kill(os.getpid(), number)
