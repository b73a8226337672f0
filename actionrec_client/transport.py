"""One HTTP request until it has its answer: attempts with a time limit each, an overall deadline, back-off."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from .bearer import Bearer, is_loopback
from .errors import BadReply, NoReply, Refused, ServerError, Unreachable, from_reply, redirected

FIRST_WAIT_SECONDS = 0.5
"""The first retry comes after a random part of it; the span doubles from one retry to the next..."""
LONGEST_WAIT_SECONDS = 10.0
"""... up to this."""
LONGEST_SECONDS = 86_400.0
"""What a time limit may be; sockets take no infinite one."""
Method = Literal["GET", "POST", "PUT"]
"""Of HTTP."""
_CHUNK_BYTES = 1 << 16
_LEAST_ATTEMPT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries, so that every attempt can send it anew."""

    form: Mapping[str, str] | None = None
    """Form fields beside the video."""
    video: bytes | None = None
    """A whole video file."""


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
        for seconds in (timeout_seconds, attempt_seconds):
            if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
                raise ValueError(f"a time limit must be above 0 and at most {LONGEST_SECONDS:g}, got {seconds}")
        self.timeout_seconds = timeout_seconds
        self.attempt_seconds = attempt_seconds
        self.bearer = Bearer(token, insecure=insecure_token)
        # One for each thread: a Session is not made for several. It keeps connections open, which saves time.
        self._local = threading.local()

    def call(
        self, method: Method, url: str, body: Body | None = None, timeout_seconds: float | None = None
    ) -> Any:  # noqa: ANN401  # whatever JSON came
        """Send a request, again where that may help, until it has its answer. Only for what may be sent twice.

        Args:
            method: of HTTP.
            url: the whole address.
            body: what to send.
            timeout_seconds: overall, in the place of this object's.

        Raises:
            ServerError: that of the last attempt before the deadline, or one that another attempt would not
                change.
        """
        limit = timeout_seconds or self.timeout_seconds
        attempt_limit = self.attempt_seconds or limit / 2
        deadline = time.monotonic() + limit
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, ServerError) and e.retryable),
            wait=_wait,
            stop=tenacity.stop_before_delay(limit),
            reraise=True,
        )

        def attempt() -> Any:  # noqa: ANN401
            left = max(_LEAST_ATTEMPT_SECONDS, deadline - time.monotonic())
            return self.once(method, url, body, min(attempt_limit, left))

        return attempts(attempt)

    def once(
        self, method: Method, url: str, body: Body | None = None, timeout_seconds: float | None = None
    ) -> Any:  # noqa: ANN401
        """Send a request once.

        Args:
            method, url, body: as of `call`.
            timeout_seconds: for the whole reply; default: this object's.

        Raises:
            ServerError: there is no reply in time, or not a good one.
        """
        limit = timeout_seconds or self.timeout_seconds
        deadline = time.monotonic() + limit
        body = body or Body()
        host = urlsplit(url).hostname or ""
        data, headers = _encoded(body)
        try:
            reply = self._session().request(
                method,
                url,
                data=data,
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
                text = _read(reply, url, deadline, limit)
        # urllib3's own: what is read of the body does not go through requests.
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _no_reply(url, limit) from error
        except requests.exceptions.InvalidURL as error:
            raise _bad_url(url, error) from error
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
            raise _bad_url(url, error) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            message = f"No reply from {url}: {_reason(error)}."
            raise Unreachable("UNREACHABLE", 0, message, "Is the server up, and the address right?") from error
        return _json(reply, self.bearer.hide(text))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session()
            session.auth = self.bearer
        return session


class _Session(requests.Session):
    """Knows no redirects. Even where `requests` is told not to follow one, it reads all of its body and
    prepares the request to the next address.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """There is none."""


def _encoded(body: Body) -> tuple[bytes | Mapping[str, str] | None, dict[str, str]]:
    """A body and its headers.

    A form is sent as bytes. TorchServe parses a body whose header calls it a form, which takes nine times as
    long as to pass the bytes on (benchmarks/upload.py). The handler knows a form by its first bytes.
    """
    if body.video is None:
        return body.form, {}
    if not body.form:
        return body.video, {}
    video = ("clip", body.video, "application/octet-stream")
    fields: dict[str, str | tuple[str, bytes, str]] = {**body.form, "video": video}
    form, _ = urllib3.encode_multipart_formdata(fields)
    return form, {"Content-Type": "application/octet-stream"}


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential back-off with full jitter, after what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, ServerError) else 0.0
    return asked + _JITTER(state)


_JITTER = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


def _read(reply: requests.Response, url: str, deadline: float, limit: float) -> str:
    """The reply's body, within the deadline. A server that sends a byte now and then keeps every single read
    within its time limit, and would never end.
    """
    body = bytearray()
    while chunk := reply.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if time.monotonic() > deadline:
            raise _no_reply(url, limit)
    return body.decode(errors="replace")


def _json(reply: requests.Response, text: str) -> Any:  # noqa: ANN401
    try:
        body = json.loads(text)
    except ValueError as error:
        if reply.ok:
            code = reply.status_code
            raise BadReply("BAD_REPLY", code, f"The reply is not JSON: {text[:200]!r}.") from error
        body = None
    if not reply.ok or (isinstance(body, dict) and "error" in body):
        raise from_reply(reply, text)
    return body


def _no_reply(url: str, limit: float) -> NoReply:
    return NoReply(
        "DEADLINE", 0, f"No reply from {url} within {limit:.3g} s.", "Try again, or allow more time."
    )


def _bad_url(url: str, error: Exception) -> Refused:
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
