"""Timestamps -> the frames that the model sees. Pure arithmetic, one contract for every way that video comes
in.

    timestamps   0    .033   .067   .1    ...   2.1    2.133   2.167
    window      [start ------------------------------- end)
    in it        *     *      *     *     ...    *                      n frames
    sampled      *            *           ...    *                      uniform_indices(n, num_frames)

A window is half open and counted in seconds by the video's own timestamps, so the frame rate plays no part. A
window with fewer frames than the model takes repeats some of them.

Several windows lie evenly in a range of the video:

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

Box = tuple[float, float, float, float]
"""Left, top, width and height, in pixels."""

# A timestamp up to this many ticks before a window's edge counts as on it: 2.1333 s in floating point is not
# exactly tick 64 of 30, and the difference must not decide whether frame 64 belongs to the window.
_TICK_TOLERANCE = 1e-6

# Many containers count in milliseconds, so a clip of 64 frames may be 2.133 s long, and the window 2.1333 s.
_CLOCK_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a video a request asks for, in the request's own terms."""

    start_seconds: float = 0.0
    """Seconds from the video's first frame."""
    end_seconds: float | None = None
    """Seconds from the video's first frame. None: one window after the start; with `views` above 1 or
    `stride_seconds`, the video's end."""
    views: int = 1
    """Windows spread over the range, whose scores are averaged. One is the middle of the range."""
    crops: int = 1
    """1: the centre of the frame; 3: both ends of its longer side and the middle, averaged too."""
    stride_seconds: float | None = None
    """A timeline: a window every so many seconds, each with its own scores. Not together with `views`."""

    @property
    def several(self) -> bool:
        """Whether it may give more than one window. Then a missing end means the video's end."""
        return self.views > 1 or self.stride_seconds is not None

    def needs_length(self, window_seconds: float) -> bool:
        """Whether `spread` needs the video's length."""
        if self.end_seconds is None:
            return self.several
        return self.end_seconds - self.start_seconds > window_seconds


FIRST_WINDOW = Selection()


@dataclass(frozen=True, slots=True)
class Windows:
    """Evenly spaced windows. Iterating gives the (start, end) of each, in seconds."""

    first_seconds: float
    """Start of the first window."""
    step_seconds: float
    """Time from one start to the next."""
    count: int
    """Number of windows, at least 1."""
    seconds: float
    """Length of each window."""

    def __iter__(self) -> Iterator[tuple[float, float]]:
        for index in range(self.count):
            start = self.first_seconds + index * self.step_seconds
            yield start, start + self.seconds


def spread(selection: Selection, window_seconds: float, clip_seconds: float = math.inf) -> Windows:
    """The windows that a selection asks for.

    `views` above 1 are placed like the ten clips of the published evaluation (pytorchvideo's
    ``ConstantClipsPerVideoSampler``, PySlowFast's test mode): number i of N starts at ``(range - window) * i /
    N``, so the last one ends before the range does. A timeline is placed like ``UniformClipSampler(window,
    stride)``: windows follow as long as they end inside the range, so up to a stride may be left over at its
    end. Strides longer than a window, which pytorchvideo refuses, leave gaps. A range no longer than a window
    gives one window: the range.

    Args:
        selection: what the request asks for.
        window_seconds: length of a window.
        clip_seconds: length of the video; not read unless `Selection.needs_length`.
    """
    start, end = selection.start_seconds, selection.end_seconds
    if not selection.needs_length(window_seconds):
        return Windows(start, 0.0, 1, window_seconds if end is None else end - start)
    # The length comes from the packets, and the last one may not say how long it is shown. So a range no longer
    # than a window is not cut short at the video's end.
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
    """(top, left) of each crop, in pixels, in a frame whose sides are at least `crop`.

    One crop is torchvision's centre crop, rounded half to even. Three are those of pytorchvideo's and
    PySlowFast's ``uniform_crop``: left, centre, right, or top, centre, bottom where the frame is higher
    than wide.
    """
    top, left = (height - crop) / 2, (width - crop) / 2
    if crops == 1:
        return [(round(top), round(left))]
    top, left = math.ceil(top), math.ceil(left)
    if height > width:
        return [(0, left), (top, left), (height - crop, left)]
    return [(top, 0), (top, left), (top, width - crop)]


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) of a frame whose short side is resized to `short_side` pixels.

    The longer side is truncated, not rounded, as pytorchvideo's short_side_scale does.
    """
    if width < height:
        return short_side, int(height / width * short_side)
    return int(width / height * short_side), short_side


def crop_box(width: int, height: int, short_side: int, crop: int, crops: int, number: int) -> Box:
    """Where a crop lies in the video as shown.

    Args:
        width, height: of the video as shown, in pixels.
        short_side: pixels that its short side is resized to.
        crop: edge of the square crop, in pixels after the resize.
        crops: crops of each window.
        number: which of them, from 0.

    Returns:
        (left, top, width, height), in pixels of the video as shown.
    """
    size = scaled_size(width, height, short_side)
    top, left = crop_corners(size[1], size[0], crop, crops)[number]
    across, down = width / size[0], height / size[1]
    return left * across, top * down, crop * across, crop * down


def uniform_indices(count: int, samples: int) -> npt.NDArray[np.int64]:
    """The indices of `samples` evenly spaced items out of `count`, truncated.

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
    # torch fuses multiply and subtract when it counts back from the end, so this half is computed in float64
    # and rounded once.
    from_end = (np.float64(last) - np.float64(step) * position[::-1].astype(np.float64)).astype(np.float32)
    values = np.where(position < samples // 2, step * position, from_end)
    return np.clip(values, 0, last).astype(np.int64)


def window_ticks(start_seconds: float, end_seconds: float, time_base: Fraction, origin: int) -> tuple[int, int]:
    """A window [start, end) in timestamps of a stream.

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
