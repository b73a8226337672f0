"""Timestamps -> which frames. Pure arithmetic, one contract for every way that video comes in.

    timestamps   0    .033   .067   .1    ...   2.1    2.133   2.167
    window      [start ------------------------------- end)
    in it        *     *      *     *     ...    *                      n frames
    sampled      *            *           ...    *                      uniform_indices(n, num_frames)

A window is half open and in seconds of the clip's own clock, so the clip's frame rate plays no part. A
window with fewer frames than the model eats repeats some of them.

Several windows of one clip lie in a range, evenly:

    range       [start --------------------------------------------------- end)
    views=3     [---- window ----)[---- window ----)[---- window ----)          start + i * (range - window) / 3
    stride      [---- window ----)
                   [---- window ----)                                           start + i * stride,
                      [---- window ----)  ...                                   as long as it ends in the range
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

# A timestamp this much (in ticks) before a window's edge counts as on it: 2.1333 s in floating point is not
# exactly tick 64 of 30, and must not decide whether frame 64 belongs to the window.
_TICK_TOLERANCE = 1e-6

# Many containers count in milliseconds, so a clip of 64 frames may be 2.133 s long, and the window 2.1333 s.
_CLOCK_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a video is asked for, in the words of a request."""

    start_seconds: float = 0.0
    """From the clip's first frame."""
    end_seconds: float | None = None
    """None: one window after the start; with `views` above 1 or `stride_seconds`, the clip's end."""
    views: int = 1
    """Windows spread over the range, whose scores are averaged. One is the middle of the range."""
    crops: int = 1
    """1: the centre of the picture; 3: both ends of its longer side and the middle, averaged too."""
    stride_seconds: float | None = None
    """A timeline: a window every so many seconds, each with scores of its own. Not together with `views`."""

    @property
    def several(self) -> bool:
        """Whether more than one window may come of it, and so an end that is left out is the clip's."""
        return self.views > 1 or self.stride_seconds is not None

    def needs_length(self, window_seconds: float) -> bool:
        """Whether `spread` must know how long the clip is."""
        if self.end_seconds is None:
            return self.several
        return self.end_seconds - self.start_seconds > window_seconds


FIRST_WINDOW = Selection()


@dataclass(frozen=True, slots=True)
class Windows:
    """Evenly spaced windows; iterating gives each one's (start, end) in seconds."""

    first_seconds: float
    """Start of the first."""
    step_seconds: float
    """From one start to the next."""
    count: int
    """At least 1."""
    seconds: float
    """Length of each."""

    def __iter__(self) -> Iterator[tuple[float, float]]:
        for index in range(self.count):
            start = self.first_seconds + index * self.step_seconds
            yield start, start + self.seconds


def spread(selection: Selection, window_seconds: float, clip_seconds: float = math.inf) -> Windows:
    """The windows that a selection asks for.

    `views` above 1 lie as pytorchvideo's ``ConstantClipsPerVideoSampler`` puts the ten clips of the published
    evaluation (PySlowFast's test mode does the same): number i of N starts at ``(range - window) * i / N``, so
    the last one ends before the range does. A timeline lies as ``UniformClipSampler(window, stride)`` puts it:
    one window more as long as all of it is inside the range, so up to a stride at the end may be left over;
    strides longer than a window, which pytorchvideo refuses, leave out what is between. Of a range no longer
    than a window there is one window: the range.

    Args:
        selection: what is asked for.
        window_seconds: length of a window.
        clip_seconds: length of the clip; not read unless `Selection.needs_length`.
    """
    start, end = selection.start_seconds, selection.end_seconds
    if not selection.needs_length(window_seconds):
        return Windows(start, 0.0, 1, window_seconds if end is None else end - start)
    # A clip's length is that of its packets, and the last may not say how long it is shown: where the range is
    # no longer than a window, nothing is cut off at the clip's end.
    within = min(clip_seconds if end is None else end, max(start, clip_seconds))
    spare = (within - start) - window_seconds
    if spare <= 0:
        return Windows(start, 0.0, 1, window_seconds)
    if selection.stride_seconds is not None:
        count = math.floor((spare + _CLOCK_SECONDS) / selection.stride_seconds) + 1
        return Windows(start, selection.stride_seconds, count, window_seconds)
    if selection.views > 1:
        return Windows(start, spare / selection.views, selection.views, window_seconds)
    return Windows(start + spare / 2, 0.0, 1, window_seconds)


def crop_corners(height: int, width: int, crop: int, crops: int) -> list[tuple[int, int]]:
    """(top, left) of each crop of a picture whose sides are at least `crop`.

    One crop is torchvision's centre crop, rounded half to even. Three are those of pytorchvideo's and
    PySlowFast's ``uniform_crop``: left, centre, right, or top, centre, bottom where the picture is higher
    than wide.
    """
    top, left = (height - crop) / 2, (width - crop) / 2
    if crops == 1:
        return [(round(top), round(left))]
    top, left = math.ceil(top), math.ceil(left)
    if height > width:
        return [(0, left), (top, left), (height - crop, left)]
    return [(top, 0), (top, left), (top, width - crop)]


def uniform_indices(count: int, samples: int) -> npt.NDArray[np.int64]:
    """Which of `count` things to take for `samples` evenly spaced ones, truncated.

    Equal to ``torch.linspace(0, count - 1, samples).long()`` (pytorchvideo's subsampling), whose float32
    steps are counted from the nearer end; done without torch, since decoding must not import it.

    Args:
        count: how many there are, at least 1.
        samples: how many to take, at least 1; more than `count` repeats some.

    Returns:
        int64 [samples], non-decreasing, in 0..count-1.

    Raises:
        ValueError: `count` or `samples` is below 1.
    """
    if count < 1 or samples < 1:
        raise ValueError(f"uniform_indices needs count and samples of at least 1, got {count} and {samples}")
    if samples == 1:
        return np.zeros(1, dtype=np.int64)
    last = np.float32(count - 1)
    step = last / np.float32(samples - 1)
    position = np.arange(samples, dtype=np.float32)
    # torch fuses multiply and subtract when it counts back from the end, so that half is done in float64
    # and rounded once.
    from_end = (np.float64(last) - np.float64(step) * position[::-1].astype(np.float64)).astype(np.float32)
    values = np.where(position < samples // 2, step * position, from_end)
    return np.clip(values, 0, last).astype(np.int64)


def window_ticks(start_seconds: float, end_seconds: float, time_base: Fraction, origin: int) -> tuple[int, int]:
    """The window [start, end) as timestamps of a stream.

    Args:
        start_seconds, end_seconds: from the stream's first timestamp.
        time_base: seconds per tick.
        origin: the stream's first timestamp, in ticks.

    Returns:
        (first, stop): a frame is inside when ``first <= pts < stop``.
    """

    def ticks(seconds: float) -> int:
        return math.ceil(seconds / time_base - _TICK_TOLERANCE) + origin

    return ticks(start_seconds), ticks(end_seconds)
