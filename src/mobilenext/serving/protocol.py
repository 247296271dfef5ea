"""uvicorn with what it lacks: a clock on every state of a connection, its own answers in our form, graceful signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mobilenext.machine.stopping import is_second, replaceable_signals
from mobilenext.serving.headers import SAFE
from mobilenext.serving.limits import Limits
from mobilenext.serving.problems import problem_response

HEAD_S = 10.0  # for the head of a request from its first byte, and for the first byte after an answer
SENT_S = 10.0  # for an answer to be taken, and for a body that nobody reads to end
_REFUSALS = {
    400: "these bytes are no HTTP/1.1 request",
    431: "the head of the request is too large",
    501: "this transfer encoding is not understood; expected chunked or none",
}
log = logging.getLogger(__name__)


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Return the protocol class of a server with these limits."""

    class Limited(TimedProtocol):
        most_connections = limits.max_connections
        request_s = 2 * limits.timeout_s + SENT_S  # to send a body, to be answered, and to take the answer

    return Limited


class TimedProtocol(H11Protocol):
    """One connection; it is closed when the clock of the state that it is in runs out.

    waiting   for the first byte of a request: HEAD_S
    head      of which a part has come: HEAD_S
    request   from its head to its answer: request_s; the application has shorter clocks of its own
    leaving   answered, but the body has not ended or the answer has not been taken: SENT_S
    """

    most_connections = 512
    request_s = 30.0
    _state = ""
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self.app = _crowded
        self._enter("waiting", HEAD_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._enter("request", self.request_s)
        elif self._state == "waiting":
            self._enter("head", HEAD_S)

    def on_response_complete(self) -> None:
        whole = self.conn.their_state is not h11.SEND_BODY and not self.transport.get_write_buffer_size()
        self._state = ""
        super().on_response_complete()  # which begins with the next request where that has come already
        if self._answering():
            self._enter("request", self.request_s)
        elif whole and not self.transport.is_closing():
            self._enter("waiting", HEAD_S)
        else:
            self._enter("leaving", SENT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Return the answer to bytes that are no request: 400, or what h11 says that fits better, such as 431."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not (self.cycle and self.cycle.response_started):
            status = getattr(sys.exc_info()[1], "error_status_hint", 400)  # it is called where h11's error is caught
            self.transport.write(self._refusal(status, _REFUSALS.get(status, _REFUSALS[400])))
        self.transport.close()
        self._enter("leaving", SENT_S)

    def _refusal(self, status: int, detail: str) -> bytes:
        response = problem_response(status, detail, {**SAFE, "Connection": "close"})
        events = (
            h11.Response(status_code=status, headers=response.raw_headers, reason=HTTPStatus(status).phrase.encode()),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        )
        return b"".join(self.conn.send(event) or b"" for event in events)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _enter(self, state: str, seconds: float) -> None:
        """Enter a state; its clock starts now, and no byte restarts it."""
        if state == self._state:
            return
        self._stop_clock()
        self._state = state
        self._clock = self.loop.call_later(seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        if self._state in ("waiting", "head"):
            self.transport.close()
        else:  # what has not been taken by now is not going to be: close() would wait for it
            self.transport.abort()


async def _crowded(scope: Any, receive: Any, send: Any) -> None:
    """Return the application of a connection more than the limit."""
    answer = problem_response(
        503, "the server has too many connections; try again", {**SAFE, "Retry-After": "1", "Connection": "close"}
    )
    await answer(scope, receive, send)


class GracefulServer(uvicorn.Server):
    """Stops on the first signal when the requests under way are answered, on the second at once."""

    announcement = ""
    ready: Callable[[], None] | None = None  # called when requests are answered
    _asked = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        log.info("%s", self.announcement)
        if self.ready is not None:
            self.ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._asked_to_stop) for number in replaceable_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked_to_stop(self, number: int, _: FrameType | None) -> None:
        if not self.should_exit:
            self._asked = time.monotonic()
            self.should_exit = True
        elif is_second(number, self._asked):
            self.force_exit = True
