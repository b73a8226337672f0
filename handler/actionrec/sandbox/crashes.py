"""Which files have crashed a decoder: what has done so twice is not tried a third time."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from ..errors import ClipError

CRASH_HINT = "It is damaged, or made to do harm. Re-encode it: ffmpeg -i input -c:v libx264 output.mp4"

_REMEMBERED = 1_000
"""Files."""
_CRASHES = 2
"""Times that a file may crash a decoder before it is refused without another try."""


class CrashRecord:
    """The files that have crashed a child, by their sha256."""

    def __init__(self) -> None:
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, data: bytes) -> None:
        """Make sure that these bytes may be tried.

        Raises:
            ClipError: 422, they have ended too many children.
        """
        if not self._counts:  # nearly always: then there is nothing to compute a hash for
            return
        key = hashlib.sha256(data).digest()
        with self._lock:
            count = self._counts.get(key, 0)
        if count >= _CRASHES:
            raise ClipError(
                "DECODER_CRASHED",
                422,
                f"This video of {len(data):,} bytes has ended {count} processes that decoded it, "
                "and is not tried again.",
                CRASH_HINT,
            )

    def add(self, data: bytes) -> None:
        """Remember that these bytes have ended a child."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            self._counts[key] = self._counts.pop(key, 0) + 1
            while len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)
