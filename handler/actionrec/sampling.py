"""Timestamps -> which frames. Pure arithmetic, one contract for every way that video comes in.

    timestamps   0    .033   .067   .1    ...   2.1    2.133   2.167
    window      [start ------------------------------- end)
    in it        *     *      *     *     ...    *                      n frames
    sampled      *            *           ...    *                      uniform_indices(n, num_frames)

A window is half open and in seconds of the clip's own clock, so the clip's frame rate plays no part. A
window with fewer frames than the model eats repeats some of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

# A timestamp this much (in ticks) before a window's edge counts as on it: 2.1333 s in floating point is not
# exactly tick 64 of 30, and must not decide whether frame 64 belongs to the window.
_TICK_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a video is asked for, in the words of a request."""

    start_seconds: float = 0.0
    """From the clip's first frame."""
    end_seconds: float | None = None
    """None: one window after the start."""


FIRST_WINDOW = Selection()


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


def centred_window(start_seconds: float, end_seconds: float, window_seconds: float) -> tuple[float, float]:
    """The one window that stands for a range: in its middle, or all of it where it is shorter.

    Returns:
        (start, end) in seconds.
    """
    spare = (end_seconds - start_seconds) - window_seconds
    if spare <= 0:
        return start_seconds, end_seconds
    return start_seconds + spare / 2, start_seconds + spare / 2 + window_seconds
