"""The one family of errors that a client sees.

A `ClipError` carries all that a reply needs: a stable code, the HTTP status, what was received, and what
to do about it. It says nothing about the server's insides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ClipError(ValueError):
    """A request that cannot be answered, and why.

    Args:
        code: stable, upper case, for programs (``NO_VIDEO_STREAM``).
        status: HTTP status, 4xx for the client's doing, 5xx for ours.
        message: what was received and what is wrong with it.
        hint: what the sender can do.
        key: which problem of `problems` it is; empty for those that decoding does not give.
        values: that its words were made from.
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
    """Which warning of `problems` it is."""
    values: Mapping[str, object] = field(default_factory=dict, compare=False)
    """That its words were made from."""

    def to_dict(self) -> dict[str, str]:
        """One entry of a reply's ``warnings``."""
        return {"code": self.code, "message": self.message}
