"""The way through: a request to a model goes to the engine as it comes, and the reply back as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from actionrec.refusals import refuse
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import share_of
from .bodies import options_of, with_options
from .engine import Engine, Stream
from .observe import metrics, record_of
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
        found = PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        record.route, record.model = f"/{found['what']}/{{model}}", found["model"]
        if scope["method"] not in _METHODS:
            raise refuse("METHOD_NOT_ALLOWED")
        with metrics.IN_FLIGHT.track_inprogress():
            stream = await self._asked(scope, receive)
            if stream is None:
                return
            record.engine_id = stream.engine_id
            headers = list(stream.headers)
            await send({"type": "http.response.start", "status": stream.status, "headers": headers})
            async for chunk in stream.body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        record.timings_ms = stream.timings_ms
        await send({"type": "http.response.body", "body": b""})

    async def _asked(self, scope: Scope, receive: Receive) -> Stream | None:
        """The engine's reply; None: the sender is gone."""
        options = options_of(scope["query_string"])
        length = _length(scope)
        self._check(length or 0)
        body, added = _body(receive), 0
        try:
            if options:
                wrapped = await with_options(body, options)
                body, added = wrapped.chunks, wrapped.added
            state = scope["state"]
            headers = {"x-request-id": state["request_id"], "x-actionrec-client": share_of(scope)}
            if length is not None:
                headers["content-length"] = str(length + added)
                self._check(length + added)
            return await self._engine.forward(scope["path"], self._counted(body), headers)
        except SenderGone:
            return None

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
