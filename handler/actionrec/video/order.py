"""When frames are shown, where their timestamps contradict the decoder.

A decoder gives frames in the order in which they are shown. AVI, ASF and copies of such files have decoding
times only. FFmpeg's guesses from those may come out as 1, 2, 4, 3, 5, 7, 6, and sorting frames by them would
shuffle the frames. So a frame is shown when it comes out: at the decoding time of the packet that brings it
out, less the delay of the first one. FFmpeg's best-effort timestamp, which its players use, gives the same.

    packets, by decoding time   0  1  2  3  4  5  6  7
    frames as they come out        a  b  c  d  e  f  g
    their guessed timestamps       1  2  4  3  5  7  6
    shown at                       0  1  2  3  4  5  6
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .container import MAX_REORDER

Ticks = npt.NDArray[np.int64]

LAST_TICK = int(np.iinfo(np.int64).max)


class Order:
    """Checks the timestamps of frames as they come out of a decoder."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=MAX_REORDER)

    def contradicts(self, stamp: int) -> bool:
        """Take the next frame's timestamp; returns whether it is too early for its place.

        One that is below those of all frames that a decoder may hold back means that the clock was reset.
        """
        recent = self._recent
        anew = len(recent) == MAX_REORDER and stamp < min(recent)
        back = bool(recent) and stamp < recent[-1] and not anew
        recent.append(stamp)
        return back


def delay(arrivals: Sequence[int | None]) -> int:
    """How many frames a decoder gives after the last packet.

    Args:
        arrivals: as for `shown`.
    """
    return next((n for n, arrival in enumerate(reversed(arrivals)) if arrival is not None), 0)


def shown(arrivals: Sequence[int | None], start: int, tick: int, origin: int) -> Ticks:
    """When frames are shown, by when they come out of the decoder.

    Args:
        arrivals: the decoding time of the packet that gave each frame, in ticks; None where the packet has
            none, or where the decoder gave the frame after the last packet.
        start: the arrival of the file's first frame.
        tick: nominal time from a frame to the next, in ticks.
        origin: when the file's first frame is shown, in ticks.

    Returns:
        int64 [frames], ticks, rising.
    """
    last = start - tick
    times = []
    for arrival in arrivals:
        following = last + tick
        last = following if arrival is None else max(following, arrival)
        times.append(last - start + origin)
    return np.array([min(max(time, -LAST_TICK), LAST_TICK) for time in times], dtype=np.int64)
