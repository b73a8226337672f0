"""``/jobs``: the routes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from actionrec.errors import ClipError
from actionrec.refusals import refuse
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from ..bodies import options_of
from ..settings import Settings
from . import results
from .asked import Asked, asked, check_size, idempotency_key
from .events import events, last_seen
from .files import no_room, room_on_disk
from .schemas import CREATE, JobList, JobView, State
from .service import Jobs, check
from .states import Job, no_job
from .uploads import received

_MOST_LISTED = 200

_ID = "^[0-9a-f]{32}$"
Id = Annotated[str, Path(pattern=_ID, description="Of a job.")]
Value = TypeVar("Value")
_ERRORS: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such job."}}
_RESULTS: dict[str, Any] = {
    "content": {kind: {} for kind in ("application/json", "text/csv", "application/x-subrip")}
}
_EVENTS: dict[str, Any] = {"content": {"text/event-stream": {}}}


def router(settings: Settings) -> APIRouter:
    """The routes; `life` makes what they need.

    Raises:
        ValueError: a setting of jobs is of no use.
    """
    check(settings)
    routes = APIRouter(tags=["jobs"])
    route = routes.add_api_route
    one, result, stream = "/jobs/{job_id}", "/jobs/{job_id}/results", "/jobs/{job_id}/events"
    route(
        "/jobs",
        create,
        methods=["POST"],
        status_code=202,
        response_model=JobView,
        response_description="The job waits; Location has its address.",
        openapi_extra=CREATE,
    )
    route("/jobs", show_all, methods=["GET"], response_model=JobList)
    route(one, show, methods=["GET"], response_model=JobView, responses=_ERRORS)
    route(one, cancel, methods=["DELETE"], response_model=JobView, responses=_ERRORS)
    route(result, show_results, methods=["GET"], response_class=Response, responses={**_ERRORS, 200: _RESULTS})
    route(result, remove, methods=["DELETE"], status_code=204, responses=_ERRORS)
    route(
        stream,
        show_events,
        methods=["GET"],
        response_class=StreamingResponse,
        responses={**_ERRORS, 200: _EVENTS},
    )
    return routes


async def create(
    request: Request, key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=300)] = None
) -> Response:
    """Have a video looked at for as long as it takes.

    The video comes as the body itself, as a form, or by its address in JSON. The options are those of a
    request: with `stride_seconds` it becomes a timeline, which may be of any length.
    """
    jobs, settings = _jobs(request), request.app.state.settings
    known = idempotency_key(key)
    query = dict(options_of(request.scope["query_string"]))
    if "url" in query:
        message = "The address of the video stands in the address of the request, where logs would show it."
        raise ClipError("BAD_OPTION", 400, message, 'Send it in the body: {"url": "https://..."}.')
    await _asked(jobs.store.room_for, request.state.client, known, settings.jobs_per_client)
    job = Job(
        id=uuid.uuid4().hex,
        client=request.state.client,
        fingerprint="",
        request_id=request.state.request_id,
        model="",
        options={},
        source={},
        created=time.time(),
        idempotency_key=known,
    )
    with jobs.files.of_new_job(job.id) as accepted:
        job = await _with_video(request, job, query)
        made = await _of_database(jobs.submit(job))
        if made.id == job.id:
            accepted()
    return JSONResponse(made.view(), 202, {"Location": f"/jobs/{made.id}"})


async def _with_video(request: Request, job: Job, query: Mapping[str, str]) -> Job:
    """A job with what its body says and has."""
    jobs, settings = _jobs(request), request.app.state.settings
    with room_on_disk(), jobs.files.new(job.id) as file:
        upload = await received(request, file, settings.upload_bytes, jobs.files.free_bytes())
        if twice := sorted(set(query) & set(upload.fields)):
            message = f"{twice[0]} is both in the address and in the body."
            raise ClipError("CONFLICTING_OPTIONS", 400, message, "Give each option once.")
        found = await asked({**query, **upload.fields}, request.app.state.engine)
        _check_one(upload.has_video, found)
        webhook = None if found.webhook is None else await jobs.caller.check(found.webhook)
        job = replace(job, model=found.model, version=found.version, options=found.options, webhook=webhook)
        if found.url is not None:
            return await _by_address(jobs, job, found)
        check_size(found, file.size)
        store = await _of_database(jobs.shared())
        await asyncio.to_thread(file.keep)
    said = {"bytes": file.size, "sha256": file.sha256}
    return replace(job, source=said, fingerprint=found.fingerprint(file.sha256), store=store)


async def _by_address(jobs: Jobs, job: Job, found: Asked) -> Job:
    place = jobs.fetcher.place(found.url)
    job = replace(job, source={"url": place.shown}, fingerprint=found.fingerprint(place.url))
    if not place.query:
        return replace(job, url=place.url)
    # A query may hold a signature, so it is in no database: the gateways of this run_dir can do the job.
    store = await _of_database(jobs.shared())
    await asyncio.to_thread(jobs.files.keep_secret_url, job.id, place.url)
    return replace(job, store=store)


def _check_one(has_video: bool, found: Asked) -> None:
    if has_video and found.url is not None:
        raise ClipError("TWO_VIDEOS", 400, "The request has a video and an address.", "Send one of them.")
    if not has_video and found.url is None:
        hint = 'Send the file as the body (curl -X POST -T clip.mp4), or its address as {"url": "https://..."}.'
        raise ClipError("NO_VIDEO", 400, "The request has no video.", hint)


async def show_all(
    request: Request,
    state: State | None = None,
    after: Annotated[str | None, Query(pattern=_ID, description="The last job of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 50,
) -> dict[str, Any]:
    """Your jobs, the newest first."""
    found = await _asked(_jobs(request).store.listed, request.state.client, state, after, limit + 1)
    some = found[:limit]
    following = None
    if len(found) > limit:
        query = {"after": some[-1].id, "limit": limit, **({"state": state} if state else {})}
        following = f"/jobs?{urlencode(query)}"
    return {"jobs": [job.view() for job in some], "next": following}


async def show(request: Request, job_id: Id) -> dict[str, Any]:
    """How a job is."""
    return (await _asked(_jobs(request).store.get, job_id, request.state.client)).view()


async def cancel(request: Request, job_id: Id) -> dict[str, Any]:
    """Cancel a job. One that has ended stays as it is."""
    return (await _of_database(_jobs(request).cancel(job_id, request.state.client))).view()


async def remove(request: Request, job_id: Id) -> Response:
    """Forget a job, with its result; one that has not ended is cancelled first."""
    await _of_database(_jobs(request).delete(job_id, request.state.client))
    return Response(status_code=204)


async def show_results(
    request: Request,
    job_id: Id,
    form: Annotated[results.Form, Query(alias="format")] = "json",
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="The first window of the page.")] = 0,
    limit: Annotated[int, Query(ge=1, le=results.MOST_WINDOWS)] = results.MOST_WINDOWS,
) -> Response:
    """What a job that is done has found: the reply of one request. `page.next` is the next page's offset."""
    jobs = _jobs(request)
    job = await _asked(jobs.store.get, job_id, request.state.client)
    results.check_done(job)
    reply = await _asked(jobs.store.result, job_id)
    if reply is None:
        raise no_job()
    return await asyncio.to_thread(results.response, reply, form, offset, limit)


async def show_events(
    request: Request,
    job_id: Id,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> StreamingResponse:
    """How a job goes: an event for each change, named by the state, until it has ended."""
    store = _jobs(request).store
    job = await _asked(store.get, job_id, request.state.client)
    stream = events(store, job, last_seen(last), request.app.state.closing)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _asked(call: Callable[..., Value], *arguments: object) -> Value:
    """What the database says, asked in a thread."""
    return await _of_database(asyncio.to_thread(call, *arguments))


async def _of_database(answer: Awaitable[Value]) -> Value:
    """What needs the database.

    Raises:
        ClipError: 503, it does not answer; 507, it has no room.
    """
    try:
        return await answer
    except SQLAlchemyError as error:
        if "full" in str(getattr(error, "orig", "")):
            raise no_room() from error
        raise refuse("UNAVAILABLE") from error
