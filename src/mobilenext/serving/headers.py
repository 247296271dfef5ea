"""Around every request: safe headers on the answer, whose host is spoken to, and how long it took."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobilenext.serving.metrics import Metrics
from mobilenext.serving.problems import problem_response

log = logging.getLogger(__name__)

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",  # a file input with `capture` needs none of them
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """ASGI middleware, outermost.

    Args:
        app: what is wrapped.
        metrics: told of every answer.
        routes: paths that are counted by name; any other counts as "other".
        hosts: values of the Host header that are answered; None: all. A page of somebody else whose name is made to
            point here (DNS rebinding) sends its own name.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: Collection[str], hosts: Collection[str] | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        route = scope["path"] if scope["path"] in self._routes else "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers[name] = value
            await send(message)

        app = self._app
        if self._hosts is not None and _host(scope) not in self._hosts:
            app = problem_response(421, "this server answers to localhost only; --host opens it to others")
        try:
            await app(scope, receive, send_safely)
        except Exception as error:  # a bug: the client need not know more than that
            log.error("a request failed: %s", type(error).__name__, exc_info=error)
            if status:
                raise
            await problem_response(500, "the server failed; its log says why")(scope, receive, send_safely)
        finally:
            self._metrics.requests.labels(route, method, str(status or 499)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)


def _host(scope: Scope) -> str:
    """The Host header without its port."""
    host = Headers(scope=scope).get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
