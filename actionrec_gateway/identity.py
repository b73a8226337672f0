"""The outermost layer: each request gets an id, and each failure of what lies below an answer."""

from __future__ import annotations

import logging
import re
import uuid

from actionrec.errors import ClipError
from actionrec.refusals import refuse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import JSON, error_body, error_headers

logger = logging.getLogger(__name__)

HEADER = b"x-request-id"
_KEPT = re.compile(rb"[A-Za-z0-9_.:=+/-]{1,128}")
"""What is kept of a sender's own ids: nothing that could mean something in a log or a header."""


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The sender's ``X-Request-ID`` where it has one of ordinary letters, else a new one."""
    for name, value in headers:
        if name == HEADER and _KEPT.fullmatch(value):
            return value.decode("ascii")
    return uuid.uuid4().hex


class Identified:
    """Gives each request ``request.state.request_id``, and its reply the header.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        state = scope.setdefault("state", {})
        state["request_id"], state["client"] = request_id, ""
        begun = False

        async def named(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
                message = {**message, "headers": [*headers, (HEADER, request_id.encode("ascii"))]}
            await send(message)

        try:
            await self.app(scope, receive, named)
        except ClipError as error:
            if begun:
                raise
            await send_error(error, request_id, named)
        except Exception:
            logger.exception("A request failed: %s", request_id)
            if not begun:
                await send_error(refuse("INTERNAL"), request_id, named)


async def send_error(error: ClipError, request_id: str, send: Send) -> None:
    """Answer with an error."""
    body = error_body(error, request_id)
    headers = {"content-type": JSON, "content-length": str(len(body)), **error_headers(error)}
    raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
