"""``/page/teach``: the routes. Who may not teach can ask whether he may, and no more."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from actionrec.errors import ClipError
from actionrec.refusals import refuse
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from ...access import may_teach, require_teacher
from ...jobs.files import room_on_disk
from ...jobs.uploads import received
from ...settings import MODEL, Settings
from ..labels import Name
from .learner import Learner
from .learning import Learning, Method
from .videos import Video, Videos, too_much

_CLIP = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
_REPORT_HEADERS = {
    "Cache-Control": "no-store",
    # It is one file with a style of its own. The rest it may not do, whatever stands in it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ModelName = Annotated[str, Field(pattern=f"^{MODEL}$")]
teachers = [Depends(require_teacher)]


class Kept(BaseModel):
    """A video that is on the server."""

    name: str
    bytes: int


class Teaching(BaseModel):
    """What can be learned here, and how it goes."""

    can: Literal["learn", "denied", "absent"] = Field(
        description="`denied`: by others; `absent`: this host has not what learning needs."
    )
    videos: list[Kept] = []
    most_bytes: int = 0
    video_bytes: int = 0
    models: list[str] = Field(default=[], description="That can be learned on.")
    busy: bool = Field(default=False, description="Something is being learned, for anybody.")
    learning: Learning | None = None


class Wanted(BaseModel):
    """What is to be learned."""

    name: ModelName = Field(description="Of the new model.")
    model: ModelName = Field(description="That it is learned on.")
    method: Method = "head"


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/page/teach", tags=["page"])

    @routes.get("")
    async def teaching(request: Request) -> Teaching:
        """Whether you may have this server learn, your videos on it, and how learning goes."""
        settings: Settings = request.app.state.settings
        learner, client = _learner(request), request.state.client
        if learner.project is None:
            return Teaching(can="absent")
        if not may_teach(request):
            return Teaching(can="denied")
        videos = await asyncio.to_thread(_videos(request).all, client)
        return Teaching(
            can="learn",
            videos=[Kept(name=one.name, bytes=one.bytes) for one in videos.values()],
            most_bytes=settings.teach_bytes,
            video_bytes=settings.teach_video_bytes,
            models=await asyncio.to_thread(learner.bases),
            busy=learner.busy(),
            learning=learner.last(client),
        )

    @routes.put("/videos", dependencies=teachers, openapi_extra=_CLIP)
    async def send(request: Request, name: Annotated[Name, Query()]) -> Kept:
        """Keep a video, the body, for learning; one of the same name is replaced."""
        _check_idle(request)
        settings: Settings = request.app.state.settings
        videos, client = _videos(request), request.state.client
        free = await asyncio.to_thread(videos.free_bytes, client, name)
        if int(request.headers.get("content-length") or 0) > free:
            raise too_much(settings.teach_bytes)
        with room_on_disk(), videos.new(client) as (called, file):
            upload = await received(request, file, settings.teach_video_bytes, videos.disk_bytes(client))
            if not upload.has_video:
                raise ClipError("EMPTY_BODY", 400, "The video has no bytes.", "Send the file itself.")
            _check_idle(request)
            kept: Video = await asyncio.to_thread(videos.keep, client, name, called, file)
        return Kept(name=kept.name, bytes=kept.bytes)

    @routes.delete("/videos", dependencies=teachers, status_code=204)
    async def remove(request: Request) -> Response:
        """Remove all your videos from the server. Labels and models stay."""
        _check_idle(request)
        await asyncio.to_thread(_videos(request).remove_all, request.state.client)
        return Response(status_code=204)

    @routes.post("/learning", dependencies=teachers, status_code=202)
    async def begin(request: Request, wanted: Wanted) -> Learning:
        """Learn your labels from your videos: `make learn` on this server, one at a time."""
        return await _learner(request).begin(request.state.client, wanted.name, wanted.model, wanted.method)

    @routes.delete("/learning", dependencies=teachers)
    async def cancel(request: Request) -> Learning:
        """Cancel it. What it knows of the videos is kept: begun again, it goes on."""
        return await _learner(request).cancel(request.state.client)

    @routes.post("/serving", dependencies=teachers, status_code=202)
    async def serve(request: Request) -> Learning:
        """Have the engine serve what was learned."""
        return await _learner(request).serve(request.state.client)

    @routes.get("/report")
    async def report(
        request: Request,
        of: Annotated[str, Query(pattern="^[0-9a-f]{32}$")],
        ticket: Annotated[str, Query(max_length=100)],
    ) -> Response:
        """How good a model is: its report. The address comes with the run, and needs no token."""
        home = request.app.state.settings.run_dir / "teach" / of
        learning = await asyncio.to_thread(Learning.load, home)
        if learning is None or not learning.is_ticket(ticket):
            raise refuse("NOT_FOUND")
        body = await asyncio.to_thread((home / "report.html").read_bytes)
        return Response(body, headers=_REPORT_HEADERS, media_type="text/html; charset=utf-8")

    return routes


def _learner(request: Request) -> Learner:
    learner: Learner = request.app.state.learner
    return learner


def _videos(request: Request) -> Videos:
    videos: Videos = request.app.state.videos
    return videos


def _check_idle(request: Request) -> None:
    """Refuse to change videos that are being learned from.

    Raises:
        ClipError: 409.
    """
    found = _learner(request).last(request.state.client)
    if found is not None and found.state == "running":
        hint = "Wait until it has ended, or cancel it."
        raise ClipError("LEARNING_ALREADY", 409, "These videos are being learned from.", hint)
