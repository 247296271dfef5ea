"""Problems as the client sees them: RFC 9457 details with a sentence, never a path or a traceback."""

from __future__ import annotations

import http
import json
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mobilenext.errors import ImageError

MEDIA_TYPE = "application/problem+json"
SHOWN = 500  # characters of a sentence that an image's content has part in


class Problem(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None, close: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        if close:  # what is left of the body is not going to be read
            self.headers["Connection"] = "close"


def problem_response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    content = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json.dumps(content), status, headers, MEDIA_TYPE)


def answer_problems(app: FastAPI) -> None:
    """Let the application answer problems of requests in this form."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error.status, error.detail, error.headers)

    async def image_error(_: Request, error: Exception) -> Response:
        # The decoder speaks to somebody who has a list of files; here there is one.
        return problem_response(422, str(error).replace(" or take it off the list", "")[:SHOWN])

    async def http_exception(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(error.status_code, _sentence(error), dict(error.headers or {}))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(422, "; ".join(_field(fault) for fault in error.errors())[:SHOWN])

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(ImageError, image_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, invalid)


def _sentence(error: HTTPException) -> str:
    known = {404: "there is nothing at this address; / is the page, /docs the interface", 405: "not with this method"}
    return known.get(error.status_code, str(error.detail)[:SHOWN])


def _field(error: dict[str, Any]) -> str:
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
