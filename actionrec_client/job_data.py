"""A job of a gateway as data; what making and waiting for one have in common, with and without asyncio."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict
from urllib.parse import quote, urlencode

from . import video
from .errors import BadReply, NoReply, Refused, ServerError
from .options import Crops, EmbeddingForm, Explain, form_of
from .results import Result, Timeline
from .transport import Body

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
UPLOAD_SECONDS = 3600.0
"""For sending a video, with all its retries."""
PAGE_WINDOWS = 1000
"""Of a result, in one reply."""
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.3, 3.0
"""From one look at a job to the next."""


class JobOptions(TypedDict, total=False):
    """The options of a job: of a request, or with `stride_seconds` of a timeline. None: not given."""

    stride_seconds: float | None
    top_k: int | None
    start_seconds: float | None
    end_seconds: float | None
    views: int | None
    crops: Crops | None
    embedding: EmbeddingForm | None
    explain: Explain | None
    version: NotRequired[str | None]
    webhook: NotRequired[str | None]


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job was when it was looked at."""

    id: str
    state: State
    windows: int
    """Windows of a timeline that are done."""
    of: int | None
    """Windows that there are; None until that is known."""
    seconds_left: float | None
    """About; None where it is not known."""
    note: str | None
    """What it waits for."""
    raw: Mapping[str, Any]
    """As it came."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def error(self) -> ServerError | None:
        """Why it failed; None: it did not."""
        said = self.raw.get("error")
        if not isinstance(said, Mapping):
            return None
        fields = str(said.get("code")), int(said.get("status") or 0), str(said.get("message"))
        return Refused(*fields, str(said.get("hint") or ""))

    @classmethod
    def from_dict(cls, values: object) -> JobState:
        """From a reply.

        Raises:
            BadReply: it is of another kind of server.
        """
        try:
            if not isinstance(values, Mapping):
                raise TypeError(values)
            progress = values["progress"]
            return cls(
                id=str(values["id"]),
                state=values["state"],
                windows=int(progress["windows"]),
                of=progress["of"],
                seconds_left=progress["seconds_left"],
                note=values["note"],
                raw=values,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(values) from error


def check(values: object) -> Mapping[str, Any]:
    """A reply that is an object.

    Raises:
        BadReply: it is none.
    """
    if not isinstance(values, Mapping):
        raise _strange(values)
    return values


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that makes a job. It may be sent again: its key makes it one job."""

    path: str
    body: Body


def submission(
    clip: video.Video | None, url: str | None, model: str | None, options: JobOptions, key: str | None
) -> Submission:
    """What is sent to make a job.

    Args:
        clip: the video; None: it is fetched.
        url: where the gateway fetches it from; None: it is sent.
        model: None: the only one that is served.
        options: of the job.
        key: the same one makes the same job; None: a new one.

    Raises:
        ValueError: both a clip and an address are given, or neither.
        Refused: there is no such file, or nothing in it.
    """
    if clip is not None and url is not None:
        raise ValueError("a job is of a clip or of an url: give one of them")
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    given = {name: value for name, value in {**options, "model": model}.items() if value is not None}
    if url is not None:
        return Submission("/jobs", Body(value={**given, "url": url}, headers=headers))
    headers["Content-Type"] = "application/octet-stream"
    path = "/jobs" + (f"?{urlencode(form_of(given))}" if given else "")
    if isinstance(clip, str | Path):
        place = Path(clip)
        if not video.size_of(place):
            raise Refused("EMPTY_BODY", 400, f"{place} has no bytes.", "Is it still being written?")
        return Submission(path, Body(file=place, headers=headers))
    if clip is None:
        raise ValueError("a job is of a clip or of an url: give one of them")
    return Submission(path, Body(video=video.to_bytes(clip), headers=headers))


def list_path(state: State | None) -> str:
    """Address of the first page of a list."""
    return "/jobs?" + urlencode({"limit": 100, **({"state": state} if state else {})})


def job_path(job_id: str, rest: str = "") -> str:
    """Address of a job."""
    return f"/jobs/{quote(job_id, safe='')}{rest}"


class Pages:
    """A result that comes page by page."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] | None = None
        self.next: int | None = 0
        """Offset of the page that is missing; None: none is."""

    def path(self, job_id: str) -> str:
        """Address of that page."""
        return job_path(job_id, f"/results?offset={self.next}&limit={PAGE_WINDOWS}")

    def add(self, values: object) -> None:
        """Add a page.

        Raises:
            BadReply: it is of another kind of server.
        """
        page = dict(check(values))
        place = page.pop("page", None)
        if not isinstance(place, Mapping):
            raise _strange(values)
        if self._whole is None:
            self._whole = page
        else:
            self._whole["timeline"] += page["timeline"]
        self.next = place.get("next")

    def result(self) -> Result | Timeline:
        """The whole."""
        reply = self._whole or {}
        return Timeline.from_dict(reply) if "timeline" in reply else Result.from_dict(reply)


class Looks:
    """When to look at a job again.

    Args:
        timeout: seconds until it has to have ended; None: for as long as it takes.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._wait = FIRST_LOOK_SECONDS

    def pause(self, state: JobState) -> float:
        """Seconds until the next look.

        Raises:
            NoReply: the time is up.
        """
        wait, self._wait = self._wait, min(1.3 * self._wait, LAST_LOOK_SECONDS)
        if self._deadline is None:
            return wait
        left = self._deadline - time.monotonic()
        if left <= 0:
            message = f"Job {state.id} is {state.state} after {self._timeout:g} s."
            raise NoReply("DEADLINE", 0, message, "It goes on: wait for it again.")
        return min(wait, left)


def views(values: object) -> Iterator[JobState]:
    """The jobs on a page of a list."""
    found = check(values).get("jobs")
    if not isinstance(found, list):
        raise _strange(values)
    return map(JobState.from_dict, found)


def _strange(values: object) -> BadReply:
    message = f"The reply is of another kind of server: {str(values)[:200]}."
    return BadReply("BAD_REPLY", 200, message, "Is it the gateway's address (port 8000)?")
