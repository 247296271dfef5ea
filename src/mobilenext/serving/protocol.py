"""uvicorn with what it lacks: a clock on every state of a connection, its own answers in our form, graceful signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import FrameType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mobilenext.machine.stopping import is_second, replaceable_signals
from mobilenext.serving.headers import SAFE
from mobilenext.serving.limits import Limits
from mobilenext.serving.problems import problem_response

HEAD_S = 10.0  # for the head of a request from its first byte, and for the first byte after an answer
SENT_S = 10.0  # for an answer to be taken, and for a body that nobody reads to end
MOST_HEAD = 1 << 16  # bytes of a head, and of its headers and trailers
HEADER_BYTES = 32  # that each header counts beside its name and value: thousands of short ones take memory, too
MOST_PIPELINED = 8  # requests of a connection that wait behind the one that is answered
_REFUSALS = {
    400: "these bytes are no HTTP/1.1 request",
    431: "the head of the request is too large",
    501: "this transfer encoding is not understood; expected chunked or none",
}
log = logging.getLogger(__name__)


def timed_protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Return the protocol class of a server with these limits."""

    class Limited(TimedProtocol):
        most_connections = limits.max_connections
        request_s = 2 * limits.timeout_s + SENT_S  # to send a body, to be answered, and to take the answer

    return Limited


class TimedProtocol(HttpToolsProtocol):
    """One connection; it is closed when the clock of the state that it is in runs out.

    waiting   for the first byte of a request: HEAD_S
    head      of which a part has come: HEAD_S
    request   from its head to its answer: request_s; the application has shorter clocks of its own
    leaving   answered, but the body has not ended or the answer has not been taken: SENT_S

    The parser, llhttp, is fast and strict, and bounds nothing. Here are the bounds, and what RFC 9112 has a server
    check beyond the grammar: one Host, and no transfer encoding but chunked.
    """

    most_connections = 512
    request_s = 30.0
    _state = ""
    _clock: asyncio.TimerHandle | None = None
    _lost = False
    _deaf = False  # bytes came that are no request
    _status = 400  # of the answer to them
    _part = ""  # of a message, that comes now: head, body, trailer; "" between two messages
    _part_bytes = 0  # that have come of a head or a trailer
    _steps = 0  # from part to part
    _header_bytes = 0  # of all headers and trailers of a message
    _hosts = 0  # headers of that name
    _answered: RequestResponseCycle | None = None  # the request that is answered; `cycle` is the last that has come

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self.app = _crowded
        self._enter("waiting", HEAD_S)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        part, steps = self._part, self._steps
        self._unset_keepalive_if_required()
        self._parse(data)
        # The parser keeps a field until it ends: all of these bytes may be of one that has not ended.
        if self._part in ("head", "trailer") and self._steps == steps + (0 if part else 1):
            self._part_bytes += len(data)
            if self._part_bytes > MOST_HEAD and not self._deaf:
                self._status = 431
                self.send_400_response("")
        if self._answering():
            self._enter("request", self.request_s)
        elif self._state == "waiting":
            self._enter("head", HEAD_S)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            # The parser takes what follows the head for another protocol. Here is none: the same head without the wish.
            rest = data[upgrade.args[0] :]
            version = self.parser.get_http_version().encode()
            lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
            lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self._parse(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter_part("head")
        self._header_bytes = self._hosts = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._refuse_if(len(self.url) > MOST_HEAD, 431)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + HEADER_BYTES
        self._refuse_if(self._header_bytes > MOST_HEAD, 431)
        if self._part != "head":
            return  # it stands behind the body: it is no header
        if len(name) == 4 and name.lower() == b"host":
            self._hosts += 1
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            self._refuse_if(value.strip().lower() != b"chunked", 501)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self._refuse_if(version not in ("1.0", "1.1"), 400)
        self._refuse_if(self._hosts > 1 or (version == "1.1" and not self._hosts), 400)
        self._refuse_if(len(self.pipeline) >= MOST_PIPELINED or method == b"CONNECT", 400)
        self._enter_part("body")
        self.url = _with_path(self.url)
        if self.parser.should_upgrade():
            return
        answering = self._answering()
        super().on_headers_complete()
        if not answering:
            self._answered = self.cycle

    def on_chunk_header(self) -> None:
        self._enter_part("trailer")  # if no body follows

    def on_body(self, body: bytes) -> None:
        if self._part != "body":
            self._enter_part("body")
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        self._enter_part("body")

    def on_message_complete(self) -> None:
        self._enter_part("")
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if not self.parser.should_keep_alive():  # a trailer may say so, too
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()

    def _enter_part(self, part: str) -> None:
        self._part, self._part_bytes = part, 0
        self._steps += 1

    def _refuse_if(self, wrong: bool, status: int) -> None:
        """Stop the parser: then `send_400_response` is called."""
        if wrong:
            self._status = status
            raise ValueError(_REFUSALS[status])

    def on_response_complete(self) -> None:
        whole = not self.cycle.more_body and not self.transport.get_write_buffer_size()
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()  # which begins with the next request where that has come already
        if self._lost:
            return
        self._state = ""
        if self._answering():
            self._answered = following
            self._enter("request", self.request_s)
        elif whole and not self.transport.is_closing():
            self._enter("waiting", HEAD_S)
        else:
            self._enter("leaving", SENT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_clock()
        for cycle in (self._answered, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request, and read no further; whole requests before them are answered first."""
        self._deaf = True
        if self.pipeline and self.cycle.more_body:  # of the last request, which is broken
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._answered or self.cycle
        cycle = self.cycle
        if self._answering():
            if not cycle.more_body:
                cycle.keep_alive = False  # the connection is closed behind its answer
                return
            cycle.disconnected = True  # for the application, which waits for the rest of the body
            cycle.message_event.set()
            unanswered = not cycle.response_started
        else:
            unanswered = self._part in ("", "head")  # else it is the body of a request that has its answer
        if unanswered:
            self.transport.write(_refusal(self._status, _REFUSALS[self._status]))
        self.transport.close()
        self._enter("leaving", SENT_S)

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


def _with_path(url: bytes) -> bytes:
    """Return a target with a path: a proxy may write an address that has none, and OPTIONS may ask for `*`."""
    if url == b"*":
        return b"/"
    scheme, separator, rest = url.partition(b"://")
    if url.startswith(b"/") or not separator or b"/" in rest:
        return url
    authority, mark, query = rest.partition(b"?")
    return scheme + separator + authority + b"/" + mark + query


def _refusal(status: int, detail: str) -> bytes:
    response = problem_response(status, detail, {**SAFE, "Connection": "close"})
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


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
