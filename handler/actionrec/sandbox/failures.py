"""Which files have cost a decoder its life or all of its time: what has done so twice is not tried a third
time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..errors import ClipError

CRASH_HINT = "It is damaged, or made to do harm. Re-encode it: ffmpeg -i input -c:v libx264 output.mp4"

_REMEMBERED = 1_000
"""Files."""
_TRIES = 2
"""Times that a file may end its decoder before it is refused without another try."""
_FORGOTTEN_SECONDS = 3_600.0
"""After its last try: a file may have been unlucky, on a machine that had other work."""


@dataclass(slots=True)
class _Entry:
    tries: int
    last: float
    error: ClipError


class FailureRecord:
    """The files that have ended a child, by crash or by time-out, by their sha256. Thread-safe."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, data: bytes) -> None:
        """Make sure that these bytes may be tried.

        Raises:
            ClipError: 422, that of the last time; they have ended too many children.
        """
        if not self._entries:  # nearly always: then there is nothing to compute a hash for
            return
        key = hashlib.sha256(data).digest()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and time.monotonic() - entry.last > _FORGOTTEN_SECONDS:
                del self._entries[key]
                entry = None
        if entry is not None and entry.tries >= _TRIES:
            error = entry.error
            message = f"{error.message} That was so {entry.tries} times, and it is not tried again."
            raise ClipError(error.code, error.status, message, error.hint)

    def add(self, data: bytes, error: ClipError) -> None:
        """Remember that these bytes have ended a child, and with which error."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            before = self._entries.pop(key, None)
            self._entries[key] = _Entry((before.tries if before else 0) + 1, time.monotonic(), error)
            while len(self._entries) > _REMEMBERED:
                self._entries.popitem(last=False)
