"""The way through: a request to a model goes to the engine as it comes, and the reply back as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from actionrec.refusals import refuse
from starlette.types import ASGIApp, Receive, Scope, Send

from .bodies import options_of, with_options
from .engine import Engine
from .settings import Settings

PATH = re.compile(
    r"/(?P<what>predictions|explanations)/(?P<model>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
    r"(?P<version>/[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?"
)
_METHODS = ("POST", "PUT")


class SenderGone(Exception):
    """The sender closed the connection before the end of the body."""


class Through:
    """Passes requests to models on; all others go to the application.

    Args:
        app: what answers the others.
        engine: what answers these.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, engine: Engine, settings: Settings) -> None:
        self._app, self._engine, self._settings = app, engine, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ClipError: the request is refused, before anything was answered.
        """
        if scope["type"] != "http" or not PATH.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["method"] not in _METHODS:
            raise refuse("METHOD_NOT_ALLOWED")
        options = options_of(scope["query_string"])
        length = _length(scope)
        self._check(length or 0)
        body, added = _body(receive), 0
        if options:
            wrapped = await with_options(body, options)
            body, added = wrapped.chunks, wrapped.added
        state = scope["state"]
        headers = {"x-request-id": state["request_id"]}
        if state["client"]:
            headers["x-actionrec-client"] = state["client"]
        if length is not None:
            headers["content-length"] = str(length + added)
            self._check(length + added)
        try:
            stream = await self._engine.forward(scope["path"], self._counted(body), headers)
        except SenderGone:
            return
        await send({"type": "http.response.start", "status": stream.status, "headers": list(stream.headers)})
        async for chunk in stream.body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _check(self, count: int) -> None:
        if (limit := self._settings.body_bytes) is not None and count > limit:
            raise refuse("BODY_TOO_LARGE", max_body_bytes=limit)

    async def _counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, refused where it becomes too long: one sent in chunks does not say how long it is."""
        count = 0
        async for chunk in body:
            count += len(chunk)
            self._check(count)
            yield chunk


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise SenderGone
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)


def _length(scope: Scope) -> int | None:
    """Bytes of the body; None: it comes in chunks.

    Raises:
        ClipError: 400, the header is no number.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise refuse("BAD_REQUEST")
            return int(value)
    return None
