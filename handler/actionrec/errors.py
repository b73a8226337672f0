"""The errors and warnings that a client sees.

A `ClipError` carries all that a reply needs: a stable code, the HTTP status, what was received, and what
to do about it. It says nothing about the server's internals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ClipError(ValueError):
    """A request that cannot be answered, and why.

    Args:
        code: stable, upper case, for programs (``NO_VIDEO_STREAM``).
        status: HTTP status: 4xx where the client is at fault, 5xx where the service is.
        message: what was received and what is wrong with it.
        hint: what the sender can do.
        key: name of the problem in `problems`; empty for errors that decoding does not give.
        values: the values in its message.
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        hint: str,
        key: str = "",
        values: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code, status, message, hint, key, values)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint
        self.key = key
        self.values = values or {}

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message} {self.hint}"

    def to_dict(self) -> dict[str, Any]:
        """The ``error`` object of a reply."""
        return {"code": self.code, "status": self.status, "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class ClipWarning:
    """Something that the sender of an answered request should know."""

    code: str
    message: str
    key: str = field(default="", compare=False)
    """Name of the warning in `problems`."""
    values: Mapping[str, object] = field(default_factory=dict, compare=False)
    """The values in its message."""

    def to_dict(self) -> dict[str, str]:
        """One entry of a reply's ``warnings``."""
        return {"code": self.code, "message": self.message}


def internal(message: str) -> ClipError:
    """The error where the service is at fault."""
    return ClipError("INTERNAL", 500, message, "This is the service's fault; its log says more.")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
