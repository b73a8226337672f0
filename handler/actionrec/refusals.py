"""What a door says by itself, before an engine is asked or where it gives no answer. One home for these words:
nginx and the gateway say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ClipError


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal whose message may have values: ``{max_body_bytes}``."""

    status: int
    """HTTP status."""
    message: str
    hint: str

    @property
    def again(self) -> bool:
        """Whether the same request may succeed a second later."""
        return self.status in (429, 503)


REFUSALS = {
    "BAD_REQUEST": Refusal(400, "The request is not proper HTTP.", "Send HTTP/1.1 with proper headers."),
    "UNAUTHORIZED": Refusal(
        401,
        "The request has no token that is known here.",
        "Send the header Authorization: Bearer <token>.",
    ),
    "NOT_FOUND": Refusal(404, "There is nothing at this address.", "Send clips to /predictions/<model>."),
    "MODEL_NOT_FOUND": Refusal(404, "There is no such model or version.", "Ask the operator for its name."),
    "METHOD_NOT_ALLOWED": Refusal(
        405,
        "This method is not allowed here.",
        "Send clips with POST or PUT, and ask /health with GET.",
    ),
    "REQUEST_TIMEOUT": Refusal(408, "The request did not arrive in time.", "Send it again."),
    "BODY_TOO_LARGE": Refusal(
        413, "The body is over the limit of {max_body_bytes} bytes.", "Send less of the video."
    ),
    "TOO_MANY_REQUESTS": Refusal(429, "These are too many requests at once.", "Wait a second, try again."),
    "INTERNAL": Refusal(500, "The request could not be answered.", "The service's log says more."),
    "UNSUPPORTED_ENCODING": Refusal(
        501, "This Transfer-Encoding is unknown.", "Use Content-Length or chunked."
    ),
    "UNAVAILABLE": Refusal(503, "The service is busy or being restarted.", "Wait a second, try again."),
    "UPSTREAM_TIMEOUT": Refusal(504, "The clip was not classified in time.", "Try again, or send less."),
}
"""Code -> refusal."""


def refuse(code: str, **values: object) -> ClipError:
    """The error of a door.

    Args:
        code: one of the `REFUSALS`.
        values: those in its message.
    """
    refusal = REFUSALS[code]
    return ClipError(code, refusal.status, refusal.message.format(**values), refusal.hint)
