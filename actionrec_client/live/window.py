"""Frames as they come -> windows, one every interval. The same selection by timestamp as for a file.

    frames     |.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|    at the model's size, the oldest dropped
    window 0   [--- window_seconds ---)
    window 1           [--- window_seconds ---)
               <------> interval

Memory is bounded by the frames of one window, whatever the source sends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from actionrec import sampling
from actionrec.spec import ClipSpec

from .clip import Frame

_MOST_FRAMES = 8
"""Frames kept in a window for each that the model eats: 256 of 2.13 s by default, i.e. 120 a second."""


@dataclass(frozen=True, slots=True)
class SampledWindow:
    """The frames that the model sees of one span of the stream."""

    frames: list[Frame]
    """`num_frames` of uint8 [crop, crop, 3]; some stand twice where the window has fewer."""
    start_seconds: float
    """Of the stream's time: 0 is its first frame, and gaps count."""
    end_seconds: float
    """Earlier than `window_seconds` after the start only where the stream ended."""
    source_frames: int
    """Of the stream inside the window, before sampling."""
    arrived: float
    """When its newest frame came, `time.monotonic` seconds."""
    first_arrived: float
    """When its oldest frame came, `time.monotonic` seconds."""
    lag_seconds: float
    """How late its newest frame was; see `source.Arrival`."""


@dataclass(frozen=True, slots=True)
class _Kept:
    ticks: int
    pixels: Frame
    arrived: float
    lag_seconds: float


class RollingWindow:
    """The latest frames of an unbroken piece of a stream.

    Args:
        spec: what the model eats.
        interval_seconds: from the start of one window to the next one's.
        time_base: seconds a tick.
        offset_seconds: the stream's time at the piece's first frame.
    """

    def __init__(
        self, spec: ClipSpec, interval_seconds: float, time_base: Fraction, offset_seconds: float = 0.0
    ) -> None:
        self._spec = spec
        self._interval = interval_seconds
        self._time_base = time_base
        self._offset = offset_seconds
        self._kept: deque[_Kept] = deque()
        self._origin: int | None = None
        self._next = 0
        self._min_step = spec.window_seconds / (_MOST_FRAMES * spec.num_frames) / time_base

    @property
    def end_seconds(self) -> float:
        """The stream's time at the newest frame."""
        if self._origin is None or not self._kept:
            return self._offset
        return self._offset + float((self._kept[-1].ticks - self._origin) * self._time_base)

    def wants(self, ticks: int) -> bool:
        """Whether a frame is to be kept: not where frames come faster than sampling could use."""
        return not self._kept or ticks - self._kept[-1].ticks >= self._min_step

    def add(self, ticks: int, pixels: Frame, arrived: float, lag_seconds: float) -> Iterator[SampledWindow]:
        """Keep a frame, and give the windows that are complete with it.

        Args:
            ticks: later than that of the frame before.
            pixels: uint8 [crop, crop, 3].
            arrived: `time.monotonic` seconds.
            lag_seconds: how late it was.
        """
        if self._origin is None:
            self._origin = ticks
        # A window is complete when a frame comes that is past it.
        while True:
            first, stop = self._bounds()
            if ticks < stop:
                break
            window = self._window(first, stop, self._spec.window_seconds)
            self._next += 1
            if window is not None:
                yield window
            else:
                # Over a hole, however long: to the first window that the frame is in.
                since = float((ticks - self._origin) * self._time_base) - self._spec.window_seconds
                self._next = max(self._next, math.floor(since / self._interval))
        while self._kept and self._kept[0].ticks < first:
            self._kept.popleft()
        self._kept.append(_Kept(ticks, pixels, arrived, lag_seconds))

    def finish(self) -> Iterator[SampledWindow]:
        """The window that the stream's end completes: the last one, or all there is of a short stream."""
        if self._origin is None or not self._kept:
            return
        first, stop = self._bounds()
        covered = float((self._kept[-1].ticks - self._origin) * self._time_base) + self._frame_seconds()
        start = self._next * self._interval
        # The last frame of a video may be shown for less than a frame's time, as in `actionrec.video.decode`.
        whole = covered >= start + self._spec.window_seconds - 1.5 * self._frame_seconds()
        if whole or self._next == 0:
            window = self._window(first, stop, min(self._spec.window_seconds, covered - start))
            if window is not None:
                yield window

    def _bounds(self) -> tuple[int, int]:
        """The next window as [first, stop) in ticks."""
        start = self._next * self._interval
        return sampling.window_ticks(
            start, start + self._spec.window_seconds, self._time_base, self._origin or 0
        )

    def _frame_seconds(self) -> float:
        if len(self._kept) < 2:
            return 0.0
        ticks = self._kept[-1].ticks - self._kept[0].ticks
        return float(ticks * self._time_base) / (len(self._kept) - 1)

    def _window(self, first: int, stop: int, seconds: float) -> SampledWindow | None:
        inside = [kept for kept in self._kept if first <= kept.ticks < stop]
        if not inside:
            return None
        start = self._offset + self._next * self._interval
        picked = sampling.uniform_indices(len(inside), self._spec.num_frames)
        return SampledWindow(
            frames=[inside[index].pixels for index in picked],
            start_seconds=start,
            end_seconds=start + seconds,
            source_frames=len(inside),
            arrived=inside[-1].arrived,
            first_arrived=inside[0].arrived,
            lag_seconds=inside[-1].lag_seconds,
        )
