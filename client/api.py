"""A clip over HTTP to a served model."""

from __future__ import annotations

from typing import Any

import requests

DEADLINE_SECONDS = 60.0


class ServerError(Exception):
    """A clip that got no predictions, and why.

    Args:
        code: stable, for programs: the server's (``NO_VIDEO_STREAM``), TorchServe's own
            (``ServiceUnavailableException``: its queue is full, try again), or this client's
            (``DEADLINE``, ``UNREACHABLE``, ``BAD_REPLY``).
        status: HTTP status; 0 where there was no reply.
        message: what was received and what is wrong with it.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, status: int, message: str, hint: str = "") -> None:
        super().__init__(code, status, message, hint)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message} {self.hint}".rstrip()


def classify(
    url: str, data: bytes, *, deadline_seconds: float = DEADLINE_SECONDS, **options: str | int | float | None
) -> dict[str, Any]:
    """Classify one clip.

    Args:
        url: of the model: ``http://host:8080/predictions/motion``.
        data: the bytes of a video file.
        deadline_seconds: to wait for the connection, and then for the reply. TorchServe may never answer
            when a worker dies at a bad moment, so there is always a deadline.
        options: ``top_k``, ``start_seconds`` and so on; None is as if it were not given.

    Returns:
        The reply: ``predictions``, ``clip``, ``model``, ``timings_ms``, ``warnings``.

    Raises:
        ServerError: the server refused the clip, failed, or did not answer in time.
    """
    form = {name: str(value) for name, value in options.items() if value is not None}
    try:
        reply = requests.post(
            url,
            data=form,
            files={"video": ("clip", data, "application/octet-stream")},
            timeout=deadline_seconds,
        )
    except requests.Timeout as error:
        message = f"No reply from {url} within {deadline_seconds:g} s."
        raise ServerError("DEADLINE", 0, message, "Try again, or allow more time.") from error
    except requests.RequestException as error:
        message = f"No reply from {url}: {error}."
        raise ServerError("UNREACHABLE", 0, message, "Check the address, and that the server is up.") from error
    try:
        body = reply.json()
    except ValueError as error:
        raise ServerError(
            "BAD_REPLY", reply.status_code, f"The reply is not JSON: {reply.text[:200]!r}."
        ) from error
    if reply.ok and isinstance(body, dict) and "error" not in body:
        return body
    raise _server_error(reply.status_code, body)


def _server_error(status: int, body: Any) -> ServerError:  # noqa: ANN401  # whatever JSON came
    if isinstance(body, dict):
        error = body.get("error")
        if isinstance(error, dict):
            code, message = str(error.get("code", "UNKNOWN")), str(error.get("message", ""))
            return ServerError(code, int(error.get("status", status)), message, str(error.get("hint", "")))
        if "type" in body:  # TorchServe's own form
            return ServerError(str(body["type"]), status, str(body.get("message", "")))
    return ServerError("BAD_REPLY", status, f"The reply is of another kind of server: {str(body)[:200]}.")
