"""Errors on their way out: the project's own form, whoever raised or sent them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from actionrec.errors import ClipError
from actionrec.refusals import REFUSALS, refuse
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

JSON = "application/json"
_BY_STATUS = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE"}
_MORE = {401: {"WWW-Authenticate": "Bearer"}}


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


def error_response(error: ClipError, request: Request) -> Response:
    """An error as the answer to a request."""
    request.state.code = error.code
    request_id = getattr(request.state, "request_id", "")
    return Response(error_body(error, request_id), error.status, error_headers(error), media_type=JSON)


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
        return error_response(refuse("INTERNAL"), request)  # `identity` logs it

    @api.exception_handler(RequestValidationError)
    async def of_values(request: Request, error: RequestValidationError) -> Response:
        return error_response(_from_values(error.errors()), request)


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
