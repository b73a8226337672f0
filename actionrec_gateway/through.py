"""The way through: a request to a model goes to the engine as it comes, and the reply back as it comes."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

from actionrec.body import read_json
from actionrec.errors import ClipError
from actionrec.refusals import refuse
from actionrec.request import VIDEO_FIELDS
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import share_of
from .bodies import form, options_of, with_options
from .engine import Engine, Stream
from .fetch import Fetcher
from .observe import metrics, record_of
from .settings import MODEL, VERSION, Settings

PATH = re.compile(rf"/(?P<what>predictions|explanations)/(?P<model>{MODEL})(?:/{VERSION})?")
_METHODS = ("POST", "PUT")
_ADDRESS_BYTES = 65_536
"""Longest JSON that is looked at for an address in place of a video."""


class SenderGone(Exception):
    """The sender closed the connection before the end of the body."""


class Body:
    """A request's body as it comes.

    Args:
        receive: of ASGI.
        limit: the most bytes; None: no limit.
    """

    def __init__(self, receive: Receive, limit: int | None) -> None:
        self._receive, self._limit = receive, limit
        self.error: Exception | None = None
        """Why it came to no end. Whoever sends it on may report that in words of his own."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its pieces.

        Raises:
            ClipError: 413, it is too long, which one that comes in chunks does not say before.
            SenderGone: it will not come to its end.
        """
        count, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.error = SenderGone()
                raise self.error
            chunk = message.get("body", b"")
            count += len(chunk)
            if self._limit is not None and count > self._limit:
                self.error = refuse("BODY_TOO_LARGE", max_body_bytes=self._limit)
                raise self.error
            if chunk:
                yield chunk
            more = message.get("more_body", False)


class Through:
    """Passes requests to models on; all others go to the application.

    Args:
        app: what answers the others.
        engine: what answers these.
        settings: the limits, and what may be fetched.
    """

    def __init__(self, app: ASGIApp, engine: Engine, settings: Settings) -> None:
        self._app, self._engine = app, engine
        self._limit = settings.body_bytes
        self._fetcher = Fetcher(settings)

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
            body = Body(receive, self._limit)
            try:
                stream = await self._asked(scope, body)
            except (ClipError, SenderGone):
                if isinstance(body.error, SenderGone):
                    return
                if body.error is not None:
                    raise body.error from None
                raise
            record.engine_id = stream.engine_id
            await _pass_on(stream, send)
        record.timings_ms = stream.timings_ms

    async def _asked(self, scope: Scope, body: Body) -> Stream:
        """The engine's reply."""
        options = options_of(scope["query_string"])
        length = _length(scope)
        if self._limit is not None and (length or 0) > self._limit:
            raise refuse("BODY_TOO_LARGE", max_body_bytes=self._limit)
        headers = {"x-request-id": scope["state"]["request_id"], "x-actionrec-client": share_of(scope)}
        chunks = body.chunks()
        first = await anext(chunks, b"")
        sought: dict[str, Any] = dict(options)
        short = length is not None and length <= _ADDRESS_BYTES
        if "url" not in sought and short and first.lstrip().startswith(b"{"):
            first = b"".join([first, *[chunk async for chunk in chunks]])
            sought |= _address(first)
        if "url" in sought:
            if "url" in dict(options) and first:
                raise ClipError(
                    "TWO_VIDEOS", 400, "The request has a body and a url.", "Send one video a request."
                )
            sent = form(await self._fetcher.fetch(sought.pop("url")), sought, secrets.token_hex(16))
            chunks, length = _once(sent), len(sent)
        else:
            chunks, added = _chained(first, chunks), 0
            if options:
                wrapped = await with_options(chunks, options)
                chunks, added = wrapped.chunks, wrapped.added
            length = None if length is None else length + added
        if length is not None:
            headers["content-length"] = str(length)
        return await self._engine.forward(scope["path"], chunks, headers)


async def _pass_on(stream: Stream, send: Send) -> None:
    await send({"type": "http.response.start", "status": stream.status, "headers": list(stream.headers)})
    left = next((int(value) for name, value in stream.headers if name == b"content-length"), None)
    whole = False
    async for chunk in stream.body:
        left = None if left is None else left - len(chunk)
        whole = left == 0
        await send({"type": "http.response.body", "body": chunk, "more_body": not whole})
    if not whole:
        await send({"type": "http.response.body", "body": b""})


def _address(body: bytes) -> dict[str, Any]:
    """The fields of a JSON object that has an address in place of a video; none of any other body."""
    found = read_json(body) or {}
    return dict(found) if "url" in found and not found.keys() & set(VIDEO_FIELDS) else {}


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in rest:
        yield chunk


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
