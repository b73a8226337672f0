"""One HTTP request until it has its answer: attempts with a time limit each, an overall deadline, back-off."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from .bearer import Bearer, is_loopback
from .errors import BadReply, NoReply, Refused, Reply, Unreachable, from_reply, redirected
from .patience import Patience

LONGEST_SECONDS = 86_400.0
"""What a time limit may be; sockets take no infinite one."""
Method = Literal["GET", "POST", "PUT", "DELETE"]
"""Of HTTP."""
_CHUNK_BYTES = 1 << 16
_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries, so that every attempt can send it anew."""

    form: Mapping[str, str] | None = None
    """Form fields beside the video."""
    video: bytes | None = None
    """A whole video file."""
    file: Path | None = None
    """A file that is sent as it is and never is in memory; with nothing else."""
    value: Mapping[str, Any] | None = None
    """What is sent as JSON; with nothing else."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers."""


class Transport:
    """HTTP with a bearer token, deadlines and retries; may be used by several threads at once.

    It takes proxies and certificates from the environment, as other programs do; a proxy cannot read https. It
    takes no password from ``~/.netrc``, follows no redirect, and sends what is for this machine to no proxy.

    Args:
        token: sent as ``Authorization: Bearer``.
        timeout_seconds: for a request with all its retries.
        attempt_seconds: for one attempt; by default half of the deadline, so that a reply that never comes
            leaves time for another try.
        insecure_token: send the token over plain http to hosts other than this one.

    Raises:
        Refused: ``BAD_TOKEN``.
    """

    def __init__(
        self,
        token: str | None,
        timeout_seconds: float,
        attempt_seconds: float | None = None,
        *,
        insecure_token: bool = False,
    ) -> None:
        check_limits(timeout_seconds, attempt_seconds)
        self.timeout_seconds = timeout_seconds
        self.attempt_seconds = attempt_seconds
        self.bearer = Bearer(token, insecure=insecure_token)
        # One for each thread: a Session is not made for several. It keeps connections open, which saves time.
        self._local = threading.local()

    def call(
        self,
        method: Method,
        url: str,
        body: Body | None = None,
        timeout_seconds: float | None = None,
        *,
        own_error: bool = True,
    ) -> Any:  # noqa: ANN401  # whatever JSON came
        """Send a request, again where that may help, until it has its answer. Only for what may be sent twice.

        Args:
            method: of HTTP.
            url: the whole address.
            body: what to send.
            timeout_seconds: overall, in the place of this object's.
            own_error: whether an ``error`` in a reply with a good status is the reply's; else it is data.

        Raises:
            ServerError: that of the last attempt before the deadline, or one that another attempt would not
                change.
        """
        patience = Patience(timeout_seconds or self.timeout_seconds, self.attempt_seconds)

        def attempt() -> Any:  # noqa: ANN401
            return self.once(method, url, body, patience.next_seconds(), own_error=own_error)

        return tenacity.Retrying(**patience.policy)(attempt)

    def once(
        self,
        method: Method,
        url: str,
        body: Body | None = None,
        timeout_seconds: float | None = None,
        *,
        own_error: bool = True,
    ) -> Any:  # noqa: ANN401
        """Send a request once.

        Args:
            method, url, body, own_error: as of `call`.
            timeout_seconds: for the whole reply; default: this object's.

        Raises:
            ServerError: there is no reply in time, or not a good one.
        """
        body = body or Body()
        data, headers = encoded(body)
        with body.file.open("rb") if body.file else nullcontext(data) as content:
            reply, text = self._sent(method, url, content, headers, timeout_seconds or self.timeout_seconds)
        return parsed(reply, reply.reason, self.bearer.hide(text), own_error=own_error)

    def _sent(
        self,
        method: Method,
        url: str,
        content: BinaryIO | bytes | Mapping[str, str] | None,
        headers: Mapping[str, str],
        limit: float,
    ) -> tuple[requests.Response, str]:
        """A reply, read to its end, and its text."""
        deadline = time.monotonic() + limit
        host = urlsplit(url).hostname or ""
        try:
            reply = self._session().request(
                method,
                url,
                data=content,
                headers=headers,
                # One number for both: urllib3 sends the body under the connection's limit.
                timeout=limit,
                stream=True,
                allow_redirects=False,
                proxies={"no_proxy": host} if is_loopback(host) else None,
            )
            with reply:
                if reply.is_redirect:
                    raise redirected(reply, url)
                return reply, _read(reply, url, deadline, limit)
        # urllib3's own: what is read of the body does not go through requests.
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise no_reply(url, limit) from error
        except requests.exceptions.InvalidURL as error:
            raise bad_url(url, error) from error
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
            raise bad_url(url, error) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            message = f"No reply from {url}: {_reason(error)}."
            raise Unreachable("UNREACHABLE", 0, message, "Is the server up, and the address right?") from error

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session()
            session.auth = self.bearer
        return session


def check_limits(*limits: float | None) -> None:
    """Make sure that time limits are of use.

    Raises:
        ValueError: one is not above 0, or too large.
    """
    for seconds in limits:
        if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
            raise ValueError(f"a time limit must be above 0 and at most {LONGEST_SECONDS:g}, got {seconds}")


class _Session(requests.Session):
    """Knows no redirects. Even where `requests` is told not to follow one, it reads all of its body and
    prepares the request to the next address.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """There is none."""


def encoded(body: Body) -> tuple[bytes | Mapping[str, str] | None, dict[str, str]]:
    """A body that is no file, and its headers.

    A form is sent as bytes. TorchServe parses a body whose header calls it a form, which takes nine times as
    long as to pass the bytes on (benchmarks/upload.py). The handler knows a form by its first bytes.
    """
    headers = dict(body.headers)
    if body.value is not None:
        return json.dumps(body.value).encode(), {"Content-Type": "application/json", **headers}
    if body.video is None:
        return body.form, headers
    if not body.form:
        return body.video, headers
    video = ("clip", body.video, "application/octet-stream")
    fields: dict[str, str | tuple[str, bytes, str]] = {**body.form, "video": video}
    form, _ = urllib3.encode_multipart_formdata(fields)
    return form, {"Content-Type": "application/octet-stream", **headers}


def _read(reply: requests.Response, url: str, deadline: float, limit: float) -> str:
    """The reply's body, within the deadline. A server that sends a byte now and then keeps every single read
    within its time limit, and would never end.
    """
    body = bytearray()
    while chunk := reply.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if time.monotonic() > deadline:
            raise no_reply(url, limit)
    return body.decode(errors="replace")


def parsed(reply: Reply, reason: str, text: str, *, own_error: bool = True) -> Any:  # noqa: ANN401
    """The JSON of a reply; None: it has no body, as its status says.

    Args:
        reply: its status and headers.
        reason: the status in words.
        text: its body.
        own_error: see `Transport.call`.

    Raises:
        ServerError: it stands for an error, or is no JSON.
    """
    good = reply.status_code < 400
    if reply.status_code == _NO_CONTENT:
        return None
    try:
        body = json.loads(text)
    except ValueError as error:
        if good:
            code = reply.status_code
            raise BadReply("BAD_REPLY", code, f"The reply is not JSON: {text[:200]!r}.") from error
        body = None
    if not good or (own_error and isinstance(body, dict) and "error" in body):
        raise from_reply(reply, reason, text)
    return body


def no_reply(url: str, limit: float) -> NoReply:
    """The error where the time was up."""
    return NoReply(
        "DEADLINE", 0, f"No reply from {url} within {limit:.3g} s.", "Try again, or allow more time."
    )


def bad_url(url: str, error: Exception) -> Refused:
    """The error for what is no address."""
    return Refused("BAD_URL", 0, f"{url!r} is no address: {error}", "Use http://host:8080.")


def _reason(error: Exception) -> str:
    """What the operating system said, without urllib3's wrapping of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        inner = getattr(cause, "reason", None) or cause.__cause__ or cause.__context__
        cause = inner if isinstance(inner, BaseException) else None
    return type(error).__name__
