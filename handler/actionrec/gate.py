"""How many windows are decoded at once: as many as there are cores. Slow ones do not count."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_SLOW_SECONDS = 0.3
"""Seconds after which decoding of one window no longer counts, so that it keeps nobody out. (In a sandbox it
goes on at a lower priority.)"""


class Gate:
    """Limits how many decoding steps run at once. Thread-safe.

    Args:
        places: steps at once, not counting slow ones.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._changed = threading.Condition()
        self._inside: dict[object, tuple[float, str]] = {}
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def place(self, client: str, *, slow: bool = False) -> Iterator[None]:
        """Take a place for as long as the context lasts; waits for one.

        Args:
            client: whose step it is; one client leaves a place to others. Empty: not known, and counted as a
                client of its own.
            slow: whether the step is known to be slow: it begins at once, and takes no place.
        """
        if slow:
            yield
            return
        step = object()
        with self._changed:
            self._waiting[client] += 1
            try:
                while (seconds := self._wait(client)) > 0:
                    self._changed.wait(seconds)
            finally:
                self._waiting[client] -= 1
                if not self._waiting[client]:
                    del self._waiting[client]
            self._inside[step] = (time.monotonic(), client)
        try:
            yield
        finally:
            with self._changed:
                del self._inside[step]
                self._changed.notify_all()

    def _wait(self, client: str) -> float:
        """Seconds until a client may get a place; 0 where there is one now."""
        oldest = time.monotonic() - _SLOW_SECONDS
        counted = [(since, owner) for since, owner in self._inside.values() if since > oldest]
        others_wait = any(other != client or not other for other in self._waiting)
        its_own = sum(owner == client for _, owner in counted) if client else 0
        full = len(counted) >= self._places
        greedy = others_wait and self._places > 1 and its_own >= self._places - 1
        if not (full or greedy):
            return 0.0
        return max(min(since for since, _ in counted) - oldest, 0.001)
