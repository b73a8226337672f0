"""How long a request is tried, and when again: one policy for threads and for asyncio."""

from __future__ import annotations

import time
from typing import Any

import tenacity

from .errors import ServerError

FIRST_WAIT_SECONDS = 0.5
"""The first retry comes after a random part of it; the span doubles from one retry to the next..."""
LONGEST_WAIT_SECONDS = 10.0
"""... up to this."""
_LEAST_ATTEMPT_SECONDS = 0.05
_JITTER = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


class Patience:
    """The patience with one request, from now on.

    Args:
        limit_seconds: for all attempts.
        attempt_seconds: for one of them; None: half of the limit, so that a reply that never comes leaves time
            for another try.
    """

    def __init__(self, limit_seconds: float, attempt_seconds: float | None) -> None:
        self._attempt_seconds = attempt_seconds or limit_seconds / 2
        self._deadline = time.monotonic() + limit_seconds
        self.policy: dict[str, Any] = {
            "retry": tenacity.retry_if_exception(lambda e: isinstance(e, ServerError) and e.retryable),
            "wait": _wait,
            "stop": tenacity.stop_before_delay(limit_seconds),
            "reraise": True,
        }
        """Arguments of tenacity's ``Retrying`` and ``AsyncRetrying``."""

    def next_seconds(self) -> float:
        """Seconds that the next attempt may take."""
        left = max(_LEAST_ATTEMPT_SECONDS, self._deadline - time.monotonic())
        return min(self._attempt_seconds, left)


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential back-off with full jitter, after what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, ServerError) else 0.0
    return asked + _JITTER(state)
