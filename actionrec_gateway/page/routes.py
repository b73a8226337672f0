"""The routes of the page: its files, and what only it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.refusals import refuse
from actionrec.sampling import Selection
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel

from ..engine import Engine
from ..settings import Settings
from . import files
from .frames import Frames
from .models import ModelView, models

_CLIP = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


class Session(BaseModel):
    """Who looks at the page, and what the gateway lets him do."""

    client: str
    administrator: bool
    tokens: bool
    fetch: bool
    version: str
    upload_bytes: int
    clip_bytes: int


class Sheet(BaseModel):
    """The frames that a model sees, on one picture, row by row."""

    seconds: list[float]
    columns: int
    edge: int
    jpeg: str


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Have what decodes for the page for as long as the application lives."""
    api.state.frames = frames = Frames()
    try:
        yield
    finally:
        frames.close()


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["page"])
    served = files.read()

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return files.response(served["index.html"], request)

    @routes.api_route("/page/files/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        if name not in served:
            raise refuse("NOT_FOUND")
        return files.response(served[name], request)

    @routes.get("/page/session")
    async def session(request: Request) -> Session:
        """Who you are to this gateway, and what it takes."""
        settings: Settings = request.app.state.settings
        client = request.state.client
        return Session(
            client=client,
            administrator=bool(client) and client in settings.admins,
            tokens=settings.tokens is not None,
            fetch=bool(settings.fetch),
            version=version("slowfast-torchserve"),
            upload_bytes=settings.upload_bytes,
            clip_bytes=_clip_bytes(settings),
        )

    @routes.get("/page/models")
    async def served_models(request: Request) -> list[ModelView]:
        """What is served, with its workers."""
        return await models(request.app.state.engine)

    @routes.post("/page/frames", openapi_extra=_CLIP)
    async def frames(
        request: Request,
        model: str,
        start_seconds: Annotated[float, Query(ge=0, le=DEFAULT_LIMITS.seconds)] = 0.0,
        end_seconds: Annotated[float | None, Query(gt=0, le=DEFAULT_LIMITS.seconds)] = None,
    ) -> Sheet:
        """The frames that a model sees of the clip that is the body."""
        engine: Engine = request.app.state.engine
        described = await engine.describe(model)
        found: Frames = request.app.state.frames
        selection = Selection(start_seconds, end_seconds)
        async with found.turn:
            data = await _body(request, _clip_bytes(request.app.state.settings))
            return Sheet(**await found.sheet(data, described, selection, request.state.client))

    return routes


def _clip_bytes(settings: Settings) -> int:
    return min(settings.body_bytes or DEFAULT_LIMITS.body_bytes, DEFAULT_LIMITS.body_bytes)


async def _body(request: Request, most: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise refuse("BODY_TOO_LARGE", max_body_bytes=most)
    if not data:
        raise ClipError("EMPTY_BODY", 400, "The video has no bytes.", "Send the file itself.")
    return bytes(data)
