"""What the routes of jobs answer, as OpenAPI tells it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Progress(BaseModel):
    """How far a job is."""

    windows: int = Field(description="Windows of a timeline that are done.")
    of: int | None = Field(description="Windows that there are; null until that is known.")
    seconds_left: float | None = Field(
        description="About how long it still takes; null where that is not known."
    )


class Error(BaseModel):
    """Why a job failed."""

    code: str
    status: int
    message: str
    hint: str


class Links(BaseModel):
    """Where more about a job is."""

    self: str
    results: str
    events: str


class JobView(BaseModel):
    """A job."""

    id: str
    state: State
    model: str
    version: str | None
    options: dict[str, Any] = Field(description="Those of a request; a timeline has stride_seconds.")
    source: dict[str, Any] = Field(
        description="bytes and sha256 of a video that was sent; url of one by address."
    )
    created: str
    started: str | None
    finished: str | None
    progress: Progress
    note: str | None = Field(description="What a job waits for.")
    error: Error | None
    links: Links


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="The address of the next page; null: there is none.")


_VIDEO = {"type": "string", "format": "binary"}
_OPTIONS = {
    "model": {"type": "string", "description": "Default: the only one that is served."},
    "version": {"type": "string"},
    "webhook": {"type": "string", "format": "uri", "description": "Called when the job has ended."},
    "stride_seconds": {"type": "number", "description": "A timeline: seconds from one window to the next."},
    "start_seconds": {"type": "number"},
    "end_seconds": {"type": "number"},
    "top_k": {"type": "integer"},
    "views": {"type": "integer"},
    "crops": {"type": "integer", "enum": [1, 3]},
    "embedding": {"type": "string", "enum": ["json", "base64"]},
    "explain": {"oneOf": [{"type": "boolean"}, {"type": "string"}]},
}
CREATE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _VIDEO},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["video"], "properties": {"video": _VIDEO, **_OPTIONS}}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["url"],
                    "properties": {"url": {"type": "string", "format": "uri"}, **_OPTIONS},
                    "additionalProperties": False,
                }
            },
        },
    },
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in _OPTIONS.items()
    ],
}
"""The body of a request that makes a job, and its options in the query."""
