"""Every state of a connection, and the answers that the HTTP library gives by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mobilenext.serving import protocol
from mobilenext.serving.limits import Limits

LONG = 8 << 20
CLOCK = 0.4  # seconds, of every state
CHUNKED = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """/large answers much, /read reads the body first and answers its length and the number of headers, /late answers
    late and /never not at all; everything else answers at once."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/never":
        await asyncio.sleep(60)
    if scope["path"] == "/late":
        await asyncio.sleep(CLOCK / 2)
    body = b"x" * (LONG if scope["path"] == "/large" else 3)
    if scope["path"] == "/read":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body")
        body = b"%d bytes, %d headers" % (size, len(scope["headers"]))
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    import uvicorn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "HEAD_S", CLOCK)
        patch.setattr(protocol, "SENT_S", CLOCK)
        kind = protocol.timed_protocol(Limits(timeout_s=CLOCK, max_connections=40))
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            application, http=kind, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.force_exit = server.should_exit = True
        thread.join(300)


def ended(connection: socket.socket, within: float = 300) -> bytes:
    """All that comes until the server closes the connection."""
    connection.settimeout(within)
    content = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return content
        if not part:
            return content
        content += part


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"G", b""),
        (b"GET / HTTP/1.1\r\n", b"A"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n"),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", b"x"),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", b""),
        (b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3, b"x"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"x"),
    ],
)
def test_silence_is_closed_in_every_state(port: int, first: bytes, then: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        time.sleep(0.1)
        connection.sendall(then)
        ended(connection)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"GET / HTTP/1.1\r\n"]
)
def test_single_bytes_wind_no_clock_up(port: int, first: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        with pytest.raises(ConnectionError):  # else it is kept open
            send_single_bytes(connection)


def send_single_bytes(connection: socket.socket) -> None:
    """For five minutes."""
    for _ in range(6000):
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
def test_an_answer_that_nobody_takes_is_given_up(port: int, last: bytes) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n" + last + b"\r\n")
        time.sleep(4 * CLOCK + 1)
        assert len(ended(connection)) < LONG


def test_an_answer_that_is_taken_slowly_but_in_time_is_whole(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert len(ended(connection)) > LONG


def test_a_connection_serves_many_requests(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(6):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            content = b""
            while not content.endswith(b"xxx"):
                content += connection.recv(1000)
            time.sleep(CLOCK / 4)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (CHUNKED + b"3\r\nabc\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 30_000 + b"\r\n", 431),
    ],
)
def test_the_librarys_own_answers_are_problems_with_safe_headers(port: int, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        head, _, body = ended(connection).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", CHUNKED + b"0\r\nX: "], ids=["head", "trailer"])
@pytest.mark.parametrize("part", [b"y\r\nX: " * 100, b"y" * 1000], ids=["headers", "one header"])
def test_a_head_that_comes_in_parts_is_bounded_as_well(port: int, first: bytes, part: bytes) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 20:
                connection.sendall(part)
                sent += len(part)
                time.sleep(0.001)
    assert sent < 1 << 19


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"3 bytes, 2 headers"),
        (
            CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
            b"3 bytes, 2 headers",
        ),
        (  # a trailer is no header
            CHUNKED + b"1\r\na\r\n0\r\nHost: b\r\nX: y\r\n\r\n",
            b"1 bytes, 2 headers",
        ),
        (  # as `curl --http2` sends it
            b"POST /read HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 3\r\n\r\nabc",
            b"3 bytes, 4 headers",
        ),
        (b"GET http://a/read HTTP/1.1\r\nHost: a\r\n\r\n", b"0 bytes, 1 headers"),  # as a proxy may write it
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"xxx"),
        (b"GET http://a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", b"xxx"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"xxx"),
        (b"GET /read HTTP/1.0\r\n\r\n", b"0 bytes, 0 headers"),
        (b"GET /read HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"0 bytes, 1 headers"),
        (b"\r\nGET /read HTTP/1.1\r\nhost: a\r\n\r\n", b"0 bytes, 1 headers"),
    ],
)
def test_forms_of_a_request(port: int, sent: bytes, answer: bytes) -> None:
    for size in (1, len(sent)):  # bytes of a packet, about
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for start in range(0, len(sent), size):
                connection.sendall(sent[start : start + size])
            assert ended(connection).endswith(b"\r\n\r\n" + answer)


def test_a_wish_for_another_protocol_hides_no_request(port: int) -> None:
    """The body is a body, and what follows it is the next request."""
    wish = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    body = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    first = b"POST /read HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n" % (wish, len(body)) + body
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall((first + b"GET /read HTTP/1.1\r\nHost: a\r\n" + wish + b"\r\n") * 2)
        answers = ended(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 4
    assert answers.count(b"%d bytes" % len(body)) == answers.count(b"\n0 bytes") == 2


def test_requests_that_are_sent_at_once_are_answered_in_order_up_to_a_number(port: int) -> None:
    most = protocol.MOST_PIPELINED + 1
    for count in (3, most, 40):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" * count)
            answers = ended(connection)
        assert answers.count(b"2 bytes, 2 headers") == min(count, most)
        assert answers.lower().count(b"connection: close") == (count > most)


@pytest.mark.parametrize("path", [b"/", b"/late"])
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [b"\x16\x03\x01", CHUNKED + b"zz\r\n", CHUNKED + b"1\r\na\r\nzz\r\n"])
def test_whole_requests_are_answered_though_other_bytes_follow(
    port: int, path: bytes, before: int, after: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall((b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n") * before + after)
        answers = ended(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ") == before
    assert answers.lower().count(b"connection: close") == 1


def test_a_request_that_has_its_answer_gets_no_other(port: int) -> None:
    """Its body is broken behind the answer: nothing but the end of the connection says so."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(CHUNKED.replace(b"/read", b"/"))
        time.sleep(CLOCK / 4)
        connection.sendall(b"zz\r\n")
        answers = ended(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [b"/read", b"/late"])
def test_a_trailer_may_close_the_connection(port: int, path: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(CHUNKED.replace(b"/read", path) + b"0\r\nConnection: close\r\n\r\n")
        answer = ended(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


def test_a_connection_that_ends_takes_its_requests_along(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + CHUNKED)
            time.sleep(CLOCK / 8)
    time.sleep(3 * CLOCK)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /read HTTP/1.0\r\n\r\n")
        assert ended(connection).endswith(b"0 bytes, 0 headers")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_too_many_connections_are_503(port: int) -> None:
    time.sleep(3 * CLOCK)  # those of other tests have ended
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(45)]
    try:
        held[-1].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head, _, body = ended(held[-1]).partition(b"\r\n\r\n")
        assert b" 503 " in head.splitlines()[0]
        assert b"content-security-policy" in head.lower()
        assert json.loads(body)["status"] == 503
    finally:
        for connection in held:
            connection.close()
