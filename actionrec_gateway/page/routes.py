"""The routes of the page: its files, and what only it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.refusals import refuse
from actionrec.sampling import Selection
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel

from ..engine import Engine
from ..jobs import Jobs
from ..settings import Settings
from . import files
from .frames import Frames
from .labels import Labels, Spans
from .models import Models, ModelView
from .teach import routes as teach
from .teach.learner import Learner
from .teach.videos import Videos

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


class SoFar(BaseModel):
    """The reply of a timeline's windows that are done; null: none is, or another gateway works on it."""

    reply: dict[str, Any] | None


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Have what decodes and describes for the page for as long as the application lives."""
    api.state.frames = frames = Frames()
    api.state.served = Models(api.state.engine)
    settings: Settings = api.state.settings
    api.state.labels = Labels(settings.run_dir)
    api.state.videos = Videos(settings.run_dir, settings.teach_bytes)
    api.state.learner = Learner(settings, api.state.engine, api.state.labels, api.state.videos)
    try:
        yield
    finally:
        await api.state.learner.close()
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
        found: Models = request.app.state.served
        return await found.all()

    @routes.get("/page/jobs/{job_id}")
    async def so_far(request: Request, job_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> SoFar:
        """What is known of a job while it runs on this gateway."""
        found: Jobs = request.app.state.jobs
        await asyncio.to_thread(found.store.get, job_id, request.state.client)
        return SoFar(reply=await asyncio.to_thread(found.so_far, job_id))

    @routes.get("/page/labels")
    async def labels(request: Request) -> Spans:
        """The spans that you have marked."""
        found: Labels = request.app.state.labels
        return await asyncio.to_thread(found.get, request.state.client)

    @routes.put("/page/labels")
    async def change_labels(request: Request, changed: Spans) -> Spans:
        """Keep other spans in place of yours; 409 where they were changed meanwhile."""
        found: Labels = request.app.state.labels
        return await asyncio.to_thread(found.put, request.state.client, changed)

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

    routes.include_router(teach.router())
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
