"""``POST /live``: what is done in a stream that lies at an address, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from actionrec.errors import ClipError
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from ..engine import Engine
from ..fetch import Fetcher
from ..settings import MODEL, Settings
from .watching import Order, Watching

_PLACE_SECONDS = 2.0
"""For a place among those that watch: who looks anew has just left his own."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events until the stream ends: `opened`, `result`, `error`, `gap`, `lost`, `ended`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


class Wanted(BaseModel):
    """A stream to be watched."""

    url: str = Field(description="Where the stream lies, as the settings allow it.")
    model: Annotated[str, Field(pattern=f"^{MODEL}$")]
    interval_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5


class _Watched(StreamingResponse):
    """Events, and what is done when nobody gets them any more.

    Args:
        events: in their form for the wire.
        leave: called once. An end of the events themselves is none: whoever leaves early has not begun them.
    """

    def __init__(self, events: AsyncIterator[bytes], leave: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._leave()


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Have what fetches streams for as long as the application lives.

    Raises:
        ValueError: a setting is of no use.
    """
    settings: Settings = api.state.settings
    api.state.stream_places = asyncio.Semaphore(settings.streams_at_once)
    api.state.stream_fetcher = Fetcher(settings)
    yield


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["live"])

    @routes.post("/live", responses=_EVENTS, response_class=StreamingResponse)
    async def live(request: Request, wanted: Wanted) -> StreamingResponse:
        """Watch a stream: a result every interval, with its picture, until you leave."""
        state = request.app.state
        settings: Settings = state.settings
        engine: Engine = state.engine
        fetcher: Fetcher = state.stream_fetcher
        place = fetcher.place(wanted.url)
        if place.is_store:
            raise ClipError(
                "NO_STREAM", 422, "Nothing streams from an object store.", "Make a job of the video instead."
            )
        try:
            await asyncio.wait_for(state.stream_places.acquire(), _PLACE_SECONDS)
        except TimeoutError as error:
            raise ClipError(
                "TOO_MANY_STREAMS_WATCHED",
                429,
                f"This server watches as many streams as it may: {settings.streams_at_once}.",
                "Try again when one of them has ended.",
            ) from error
        try:
            described = await engine.describe(wanted.model)
            order = Order(
                place=place,
                model=wanted.model,
                spec=described["spec"],
                interval_seconds=wanted.interval_seconds,
                top_k=min(wanted.top_k, int(described.get("labels") or wanted.top_k)),
                client=request.state.client,
                request_id=request.state.request_id,
            )
            watching = Watching(order, engine, fetcher, state.closing)
            await watching.open()
        except BaseException:
            state.stream_places.release()
            raise

        async def leave() -> None:
            await watching.close()
            state.stream_places.release()

        return _Watched(watching.events(), leave)

    return routes
