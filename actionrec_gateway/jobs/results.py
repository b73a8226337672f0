"""The result of a job, as JSON page by page, as CSV, and as subtitles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from actionrec.errors import ClipError
from fastapi import Response
from fastapi.responses import JSONResponse

from actionrec_client.files.subtitles import segments_csv, srt
from actionrec_client.results import Timeline

from .states import ACTIVE, DONE, FAILED, Job

Form = Literal["json", "csv", "srt"]
MOST_WINDOWS = 1000
"""Of one page."""


def check_done(job: Job) -> None:
    """Refuse where there is no result.

    Raises:
        ClipError: 409, it is not done; or what the job failed with.
    """
    if job.state == DONE:
        return
    if job.state in ACTIVE:
        message, hint = f"The job is {job.state}.", f"Ask /jobs/{job.id} or its events until it is done."
        raise ClipError("JOB_NOT_DONE", 409, message, hint)
    error = job.error if job.state == FAILED else None
    if error is None:
        raise ClipError("JOB_CANCELLED", 409, "The job was cancelled; it has no result.", "Make a new one.")
    # A client's own errors keep their status. One of the engine would say that this gateway fails now.
    status = int(error["status"]) if 400 <= int(error["status"]) < 500 else 409
    raise ClipError(str(error["code"]), status, str(error["message"]), str(error["hint"]))


def page(reply: Mapping[str, Any], offset: int, limit: int) -> dict[str, Any]:
    """A reply with some of its windows.

    Args:
        reply: whole.
        offset: of the first window.
        limit: windows, at most.
    """
    windows = reply.get("timeline")
    if not isinstance(windows, list):
        return {**reply, "page": {"offset": 0, "windows": 0, "of": 0, "next": None}}
    some = windows[offset : offset + limit]
    end = offset + len(some)
    more = end if end < len(windows) else None
    return {
        **reply,
        "timeline": some,
        "page": {"offset": offset, "windows": len(some), "of": len(windows), "next": more},
    }


def response(reply: Mapping[str, Any], form: Form, offset: int, limit: int) -> Response:
    """A result in the form that is asked for.

    Raises:
        ClipError: 400, only timelines have segments.
    """
    if form == "json":
        return JSONResponse(page(reply, offset, limit))
    if "timeline" not in reply:
        message = f"The result has no segments, so it cannot be {form}."
        raise ClipError("NO_TIMELINE", 400, message, "Ask for it as JSON, or make a job with stride_seconds.")
    timeline = Timeline.from_dict(reply)
    if form == "csv":
        return Response(segments_csv(timeline), media_type="text/csv; charset=utf-8")
    return Response(srt(timeline), media_type="application/x-subrip; charset=utf-8")
