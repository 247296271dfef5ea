"""Around every request: who asks, by which name, from which page; safe headers on the answer; how long it took."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobilenext.serving.front import Front, below, host_of
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
HEALTH = ("/healthz", "/readyz")  # answered under any name: a monitor calls a server by its address
METHODS = "GET, HEAD, POST, OPTIONS"


class SafeHeaders:
    """ASGI middleware, outermost.

    Args:
        app: what is wrapped.
        metrics: told of every answer.
        routes: paths that are counted by name; any other counts as "other".
        front: what stands before the server. A page of somebody else whose name is made to point here (DNS rebinding)
            sends its own name; a page of another site sends its origin.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str], front: Front) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        host = self._front.host(peer, scope["headers"])
        prefix = self._front.root_path(peer, scope["headers"])
        path = below(_path(scope), prefix)
        path = path if path in ("", "/") else path.rstrip("/")
        route = path if path in self._routes else "other"
        method = scope["method"] if scope["method"] in METHODS.split(", ") else "other"
        origin = headers.get("origin", "")
        shared = bool(origin) and not self._front.is_own(origin, host) and self._front.is_allowed(origin)

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in (SAFE | (_shared_with(origin) if shared else {})).items():
                    answer[name] = value
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        app = self._refusal(path, host, headers, shared) or _answer(scope["method"], path, prefix) or self._app
        inner = {
            **scope,
            "client": (self._front.client(peer, scope["headers"]), 0),
            "method": "GET" if scope["method"] == "HEAD" else scope["method"],
            "path": prefix + path,
            "root_path": prefix,
        }
        try:
            await app(inner, receive, send_safely)
        except asyncio.CancelledError:  # the server stops and has waited long enough
            if status:
                raise
            await problem_response(503, "the server is stopping", {"Retry-After": "1", "Connection": "close"})(
                scope, receive, send_safely
            )
        except Exception as error:  # a bug: the client need not know more than that
            log.error("a request failed: %s", type(error).__name__, exc_info=error)
            if status:
                raise
            await problem_response(500, "the server failed; its log says why")(scope, receive, send_safely)
        finally:
            self._metrics.requests.labels(route, method, str(status or 499)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    def _refusal(self, path: str, host: str, headers: Headers, shared: bool) -> Response | None:
        """Return the answer to a request that is refused."""
        if path not in HEALTH and not self._front.answers(host_of(host)):
            return problem_response(
                421, f"this server does not answer to the name {host_of(host)[:100]!r}; its operator can allow it: "
                "--allow-host NAME",
            )  # fmt: skip
        origin = headers.get("origin", "")
        if shared or self._front.is_own(origin, host):
            return None
        # A link to the page is no request of another site's page; a form's post and a picture's address are.
        visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (visit and not origin)
        if origin or elsewhere:
            return problem_response(
                403, f"a page of another site asked ({origin[:100] or 'without its origin'}); the operator of this "
                "server can allow it: --allow-origin ORIGIN",
            )  # fmt: skip
        return None


def _answer(method: str, path: str, prefix: str) -> Response | None:
    """Return the answer that comes before any route: to OPTIONS, and to the prefix without its slash."""
    if method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": METHODS})
    if prefix and not path:
        return Response(status_code=308, headers={"Location": f"{prefix.rpartition('/')[2]}/"})
    return None


def _shared_with(origin: str) -> dict[str, str]:
    """Return headers by which a browser gives the answer to a page of another site."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Expose-Headers": "Retry-After",
        "Access-Control-Max-Age": "600",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Vary": "Origin",
    }


def _path(scope: Scope) -> str:
    """Return the path that is asked for; a proxy may write the whole address (RFC 9112, 3.2.2)."""
    path: str = scope["path"]
    if path.lower().startswith(("http://", "https://")):
        path = urlsplit(path).path or "/"
    return re.sub("/+", "/", path)  # a proxy's address that ends with one, and a path that begins with one
