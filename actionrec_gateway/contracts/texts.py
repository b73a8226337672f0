"""Errors of contracts that have them as text: ``{"error": "..."}``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from actionrec.errors import ClipError
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from ..errors import error_headers
from ..observe import record_of
from .schemas import ErrorText

TEXT_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorText, "description": "An error, in the form that this contract has."}
}
"""What the OpenAPI document says of such a route's errors."""


def text_of(error: ClipError) -> str:
    """An error in one line: its code first, for programs."""
    return f"{error.code}: {error.message} {error.hint}".strip()


class TextErrors(APIRoute):
    """A route whose errors are ``{"error": "..."}``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request, errors included."""
        answer = super().get_route_handler()

        async def with_text(request: Request) -> Response:
            try:
                return await answer(request)
            except ClipError as error:
                record_of(request.scope).code = error.code
                return JSONResponse({"error": text_of(error)}, error.status, error_headers(error))

        return with_text
