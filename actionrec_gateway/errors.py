"""Errors on their way out: the project's own form, whoever raised or sent them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from actionrec.errors import ClipError
from actionrec.refusals import REFUSALS, refuse
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import Answer

logger = logging.getLogger(__name__)

JSON = "application/json"
_BY_STATUS = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE"}
_MORE = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": "POST, PUT"}}
"""Headers of the way through. Those of a route say what that route allows."""


def error_body(error: ClipError, request_id: str) -> bytes:
    """The reply's JSON: ``{"error": {...}, "request_id": ...}``, in ASCII."""
    return json.dumps({"error": error.to_dict(), "request_id": request_id}).encode("ascii")


def error_headers(error: ClipError) -> dict[str, str]:
    """The headers that go with an error, beside its type and length."""
    headers = dict(_MORE.get(error.status, {}))
    known = REFUSALS.get(error.code)
    if error.status == 429 or (known and known.again):
        headers["Retry-After"] = "1"
    return headers


def error_answer(error: ClipError, request_id: str) -> Answer:
    """An error as an engine's answer."""
    headers = {"content-type": JSON, **error_headers(error)}
    return Answer(error.status, error_body(error, request_id), headers)


def error_response(error: ClipError, request: Request) -> Response:
    """An error as the answer to a request."""
    body = error_body(error, request.state.request_id)
    return Response(body, error.status, error_headers(error), media_type=JSON)


def install(api: FastAPI) -> None:
    """Give every error of the application's routes the project's form."""

    @api.exception_handler(ClipError)
    async def of_a_route(request: Request, error: ClipError) -> Response:
        return error_response(error, request)

    @api.exception_handler(HTTPException)
    async def of_the_router(request: Request, error: HTTPException) -> Response:
        response = error_response(_from_status(error.status_code, str(error.detail)), request)
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    @api.exception_handler(Exception)
    async def of_nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001
        return error_response(refuse("INTERNAL"), request)  # raised on, so that `Answered` logs it

    @api.exception_handler(RequestValidationError)
    async def of_values(request: Request, error: RequestValidationError) -> Response:
        return error_response(_from_values(error.errors()), request)


class Answered:
    """Answers for the layers below where they raise: with the error, or that the gateway is at fault.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = done = False

        async def watched(message: Message) -> None:
            nonlocal begun, done
            begun = True
            done = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        request_id = scope["state"]["request_id"]
        try:
            await self._app(scope, receive, watched)
        except ClipError as error:
            if begun:
                raise
            await _send(error, request_id, send)
        except Exception:
            logger.exception("A request failed: %s", request_id)
            if begun and not done:
                raise  # the server cuts the connection, so that nobody takes half a reply for a whole one
            if not begun:
                await _send(refuse("INTERNAL"), request_id, send)


async def _send(error: ClipError, request_id: str, send: Send) -> None:
    body = error_body(error, request_id)
    headers = {"content-type": JSON, "content-length": str(len(body)), **error_headers(error)}
    raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _from_status(status: int, detail: str) -> ClipError:
    code = _BY_STATUS.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL")
    known = refuse(code, max_body_bytes="its route") if code in REFUSALS else None
    if known and known.status == status:
        return known
    return ClipError(code, status, f"{detail}.", "Look at /docs for what this address takes.")


def _from_values(found: Sequence[Any]) -> ClipError:
    """The error for a request whose values are not those of its route."""
    problem = found[0] if found else {}
    where = ".".join(str(part) for part in problem.get("loc", ())) or "the request"
    why = str(problem.get("msg", "it is not what this address takes"))
    return ClipError("BAD_REQUEST", 422, f"{where}: {why}."[:500], "Look at /docs for what this address takes.")
