"""Files that have crashed a decoder or used up its time: a file that has done so twice is not tried again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..errors import ClipError

CRASH_HINT = "It is damaged, or made to do harm. Re-encode it: ffmpeg -i input -c:v libx264 output.mp4"

_REMEMBERED = 1_000
"""The most files."""
_TRIES = 2
"""Times that a file may end its decoder before it is refused."""
_FORGOTTEN_SECONDS = 3_600.0
"""Seconds after its last try at which a file is forgotten: it may have been unlucky, on a busy machine."""


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
        """Refuse bytes that have ended too many children.

        Raises:
            ClipError: 422, with the error of the last time.
        """
        if not self._entries:  # nearly always, and it saves the hash
            return
        key = hashlib.sha256(data).digest()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and time.monotonic() - entry.last > _FORGOTTEN_SECONDS:
                del self._entries[key]
                entry = None
        if entry is not None and entry.tries >= _TRIES:
            error = entry.error
            message = f"{error.message} This happened {entry.tries} times, so it is not tried again."
            raise ClipError(error.code, error.status, message, error.hint)

    def add(self, data: bytes, error: ClipError) -> None:
        """Remember that these bytes have ended a child, and with which error."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            before = self._entries.pop(key, None)
            self._entries[key] = _Entry((before.tries if before else 0) + 1, time.monotonic(), error)
            while len(self._entries) > _REMEMBERED:
                self._entries.popitem(last=False)
