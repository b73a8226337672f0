"""The one family of errors that a client sees.

A `ClipError` carries all that a reply needs: a stable code, the HTTP status, what was received, and what
to do about it. It crosses process borders (it pickles) and says nothing about the server's insides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class ClipError(ValueError):
    """A request that cannot be answered, and why.

    Args:
        code: stable, upper case, for programs (``NO_VIDEO_STREAM``).
        status: HTTP status, 4xx for the client's doing, 5xx for ours.
        message: what was received and what is wrong with it.
        hint: what the sender can do.
    """

    def __init__(self, code: str, status: int, message: str, hint: str) -> None:
        super().__init__(code, status, message, hint)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint

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

    def to_dict(self) -> dict[str, str]:
        """One entry of a reply's ``warnings``."""
        return {"code": self.code, "message": self.message}
