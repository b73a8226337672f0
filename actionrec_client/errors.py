"""What can go wrong between a client and a server.

There is a class for each thing that a caller can do about it:

    ServerError         a request has no answer
    + Unreachable       there is no connection                    try again
    + NoReply           the time was up before the reply came     try again, or allow more time
    + Busy              the server cannot answer now              try again later
    + Refused           the request is at fault (4xx)             change the request
    + ServerFailed      the server failed on the request (5xx)    read its log
    + BadReply          the reply is not from such a server       check the address
      + Redirected      the reply names another address           give that address

The client itself tries the first three again until the time is up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

_QUEUE_FULL = "ServiceUnavailableException"
_HANDLER_FAILED = "InternalServerException"
_WORKER_DIED = "Worker died"
_FAILED_FOR_GOOD = frozenset({_HANDLER_FAILED, "OUT_OF_TIME"})


class ServerError(Exception):
    """A request that got no answer, and why.

    Args:
        code: stable, for programs: the server's (``NO_VIDEO_STREAM``), TorchServe's own
            (``ServiceUnavailableException``), or this client's (``UNREACHABLE``, ``DEADLINE``, ``BAD_REPLY``,
            ``BAD_URL``, ``TOO_LARGE`` and so on).
        status: HTTP status; 0 where there was no reply.
        message: what was received and what is wrong with it.
        hint: what to do about it; may be empty.
    """

    retryable = False
    """Whether the same request may succeed a little later."""
    retry_after_seconds = 0.0
    """How long the server asked to be left alone."""

    def __init__(self, code: str, status: int, message: str, hint: str = "") -> None:
        super().__init__(code, status, message, hint)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message} {self.hint}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """The same fields as the ``error`` object of a server's reply."""
        return {"code": self.code, "status": self.status, "message": self.message, "hint": self.hint}


class Unreachable(ServerError):
    """No connection, or one that was cut before the reply."""

    retryable = True


class NoReply(ServerError):
    """The time was up before the reply came. TorchServe may never answer when a worker dies at a bad moment."""

    retryable = True


class Busy(ServerError):
    """The server, or a proxy before it, cannot answer now: its queue is full, it restarts, a worker died."""

    retryable = True


class Refused(ServerError):
    """The request is at fault (4xx): the file, an option, the token, the model's name. Errors that this client
    finds before it sends anything are of this class too, with status 0.
    """


class ServerFailed(ServerError):
    """The server took the request and failed on it (5xx). It would most likely fail on it again."""


class BadReply(ServerError):
    """What came back is not from such a server."""


class Redirected(BadReply):
    """The reply names another address. Nothing was sent there, neither the video nor the token."""


class Reply(Protocol):
    """A reply of requests or of httpx."""

    @property
    def status_code(self) -> int:
        """Of HTTP."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Without regard to case."""


def from_reply(reply: Reply, reason: str, text: str) -> ServerError:
    """The error that a reply stands for.

    Args:
        reply: with a status other than 2xx, or with an ``error`` object in its body.
        reason: the status in words; may be empty.
        text: the reply's body.
    """
    status = reply.status_code
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        said = error.get("status")
        status = said if type(said) is int else status
        fields = str(error.get("code", "UNKNOWN")), status, str(error.get("message", ""))
        made = _kind(status, fields[0])(*fields, str(error.get("hint", "")))
    elif isinstance(body, dict) and "type" in body:  # TorchServe's own form
        code, message = str(body["type"]), str(body.get("message", ""))
        # Its status is 500 or 507 where a worker was killed during a batch: another worker may answer.
        kind = Busy if code == _HANDLER_FAILED and message.startswith(_WORKER_DIED) else _kind(status, code)
        made = kind(code, status, message, _HINTS.get(code, ""))
    elif status >= 400:  # a proxy's page
        shown = " ".join(text.split())[:200] or "nothing more"
        made = _kind(status, "")(f"HTTP_{status}", status, f"{reason or 'Error'}: {shown}.")
    else:
        made = BadReply("BAD_REPLY", status, f"The reply is of another kind of server: {text[:200]!r}.")
    if made.retryable:
        made.retry_after_seconds = _seconds(reply.headers.get("Retry-After", ""))
    return made


def redirected(reply: Reply, url: str) -> Redirected:
    """The error for a reply that sends its caller elsewhere.

    Args:
        reply: with a ``Location``.
        url: that was asked.
    """
    try:
        # Not the query: it may hold a secret that is meant for the other address.
        place = urlsplit(urljoin(url, reply.headers["Location"]))
        where = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"[:200]
    except ValueError:
        where = "another address"
    return Redirected(
        "REDIRECTED",
        reply.status_code,
        f"{url} sends its callers on to {where}. Nothing was sent there.",
        "If that is your server, give its address in the place of this one.",
    )


_HINTS = {
    _QUEUE_FULL: "Its queue is full, or no worker is up: try again later, or scale it.",
    _HANDLER_FAILED: "The server's log says why.",
    "ModelNotFoundException": "`models` lists what is served.",
}


def _kind(status: int, code: str) -> type[ServerError]:
    # 503 means a full queue or a restart, but some errors that would come again have it too.
    # 429 is in the range of the request's faults, but the same request may succeed later.
    if status in (429, 502, 504) or (status == 503 and code not in _FAILED_FOR_GOOD):
        return Busy
    if 400 <= status < 500:
        return Refused
    return ServerFailed if status >= 500 else BadReply


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds, at most an hour; 0 where it is a date, since two clocks may differ."""
    try:
        return min(max(0.0, float(retry_after)), 3600.0)
    except ValueError:
        return 0.0
