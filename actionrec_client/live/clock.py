"""How late or early frames come, by their timestamps."""

from __future__ import annotations

import time

# The most by which two clocks drift apart, in seconds a second. Without it the frames of a camera with a slow
# clock would seem later every hour.
_DRIFT = 0.002


class Clock:
    """Compares a connection's timestamps with the wall clock.

    Args:
        seconds_per_tick: of its timestamps.
        played: we play it at its own speed, so the timestamps follow our clock and cannot drift.
    """

    def __init__(self, seconds_per_tick: float, *, played: bool) -> None:
        self._seconds_per_tick = seconds_per_tick
        self._drift = 0.0 if played else _DRIFT
        self.restart()

    def restart(self) -> None:
        """Forget everything: after a gap timestamps may start anywhere."""
        # Wall clock less timestamp of the promptest frame so far: the smallest difference.
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
