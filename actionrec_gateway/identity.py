"""The outermost layer: each request has an id."""

from __future__ import annotations

import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_KEPT = re.compile(rb"[A-Za-z0-9_.:=+/-]{1,128}")
"""What is kept of a sender's own ids: nothing that could mean something in a log or a header."""


class Identified:
    """Gives each request ``request.state.request_id``, and its reply the header ``X-Request-ID``.

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
        request_id = request_id_of(scope["headers"])
        header = (HEADER, request_id.encode("ascii"))
        state = scope.setdefault("state", {})
        state["request_id"], state["client"] = request_id, ""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
                message = {**message, "headers": [*headers, header]}
            await send(message)

        await self._app(scope, receive, named)


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The sender's ``X-Request-ID`` where it is of ordinary letters, else a new one."""
    for name, value in headers:
        if name == HEADER and _KEPT.fullmatch(value):
            return value.decode("ascii")
    return uuid.uuid4().hex
