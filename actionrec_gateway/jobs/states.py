"""A job as it stands in the database."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from actionrec.errors import ClipError

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ACTIVE = (WAITING, RUNNING)
FINISHED = (DONE, FAILED, CANCELLED)
STATES = (*ACTIVE, *FINISHED)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the jobs. Times are seconds of the epoch."""

    id: str
    client: str
    fingerprint: str
    request_id: str
    model: str
    options: Mapping[str, Any]
    """Of a request, with ``stride_seconds`` of a timeline."""
    source: Mapping[str, Any]
    """What clients see of the video: ``{"bytes", "sha256"}`` or ``{"url"}``."""
    created: float
    state: str = WAITING
    idempotency_key: str | None = None
    version: str | None = None
    url: str | None = None
    store: str | None = None
    queued: bool = False
    runner: str | None = None
    started: float | None = None
    finished: float | None = None
    done: int = 0
    total: int | None = None
    seconds_left: float | None = None
    progressed: float | None = None
    note: str | None = None
    error: Mapping[str, Any] | None = None
    result_bytes: int = 0
    revision: int = 0
    webhook: str | None = None
    call_at: float | None = None
    calls: int = 0

    @property
    def is_timeline(self) -> bool:
        """Whether all of the video is wanted, window after window."""
        return self.options.get("stride_seconds") is not None

    def to_row(self) -> dict[str, Any]:
        """The columns' values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name in _JSON:
            values[name] = None if values[name] is None else json.dumps(values[name])
        return values

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """The inverse of `to_row`."""
        values = {name: row[name] for name in cls.__slots__}
        for name in _JSON:
            values[name] = None if values[name] is None else json.loads(values[name])
        return cls(**values)

    def view(self) -> dict[str, Any]:
        """What clients see."""
        left = None
        if self.state == RUNNING and self.seconds_left is not None and self.progressed is not None:
            left = round(max(0.0, self.seconds_left - (time.time() - self.progressed)), 1)
        return {
            "id": self.id,
            "state": self.state,
            "model": self.model,
            "version": self.version,
            "options": dict(self.options),
            "source": dict(self.source),
            "created": _iso(self.created),
            "started": _iso(self.started),
            "finished": _iso(self.finished),
            "progress": {"windows": self.done, "of": self.total, "seconds_left": left},
            "note": self.note if self.state in ACTIVE else None,
            "error": None if self.error is None else dict(self.error),
            "links": {
                "self": f"/jobs/{self.id}",
                "results": f"/jobs/{self.id}/results",
                "events": f"/jobs/{self.id}/events",
            },
        }


_JSON = ("options", "source", "error")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for, checked."""

    model: str
    options: Mapping[str, Any]
    version: str | None = None
    webhook: str | None = None
    url: object = None
    """As it came; None: the video was sent."""
    idempotency_key: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)


def no_job() -> ClipError:
    """The error for the id of no job, or of somebody else's."""
    return ClipError("JOB_NOT_FOUND", 404, "There is no such job.", "GET /jobs lists those that are yours.")


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
