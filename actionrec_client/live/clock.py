"""How late frames are, and how early."""

from __future__ import annotations

import time

# Seconds by which two clocks part in a second, at most; without it the frames of a slow camera would seem
# later every hour.
_DRIFT = 0.002


class Clock:
    """A connection's timestamps against the wall clock.

    Args:
        seconds_per_tick: of its timestamps.
        played: at its own speed by ourselves, so that there is only one clock.
    """

    def __init__(self, seconds_per_tick: float, *, played: bool) -> None:
        self._seconds_per_tick = seconds_per_tick
        self._drift = 0.0 if played else _DRIFT
        self.restart()

    def restart(self) -> None:
        """The timestamps begin anew."""
        # The smallest difference of wall clock and timestamp so far: that of the promptest frame.
        self._offset: float | None = None
        self._last = 0.0
        self.late = 0.0
        """Of the last frame, in seconds."""

    def early(self, ticks: int) -> float:
        """Seconds to wait until a frame's time has come; 0 for the first and for one that is late."""
        if self._offset is None:
            return 0.0
        return max(0.0, ticks * self._seconds_per_tick + self._offset - time.monotonic())

    def lag(self, ticks: int, arrived: float) -> float:
        """Seconds by which a frame came later than the promptest one."""
        offset = arrived - ticks * self._seconds_per_tick
        if self._offset is None:
            self._offset = offset
        else:
            self._offset = min(self._offset + self._drift * (arrived - self._last), offset)
        self._last = arrived
        return offset - self._offset
