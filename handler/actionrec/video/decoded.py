"""What decoding gives: the sampled frames of one view, where they are from, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ClipError, ClipWarning
from ..problems import missing, warning
from ..spec import ClipSpec
from .resize import Pixels, rounded


@dataclass(frozen=True, slots=True)
class Decoded:
    """One view, which is one input of the model: the sampled frames of one crop of one window."""

    frames: Pixels
    """int16 [T, H, W, 3], RGB, in steps of 1/128 level; T, H and W are the ClipSpec's. T is 0 if `missing`."""
    start_seconds: float
    """Start of the window, from the clip's first frame."""
    end_seconds: float
    """End of what the window covers: earlier than asked where the clip is shorter."""
    source_frames: int
    """Frames of the clip inside the window, before sampling."""
    source_fps: float
    """Measured inside the window; 0 where it has one frame only."""
    width: int
    """Of the clip as shown (after rotation), in pixels."""
    height: int
    """Of the clip as shown (after rotation), in pixels."""
    warnings: tuple[ClipWarning, ...] = ()
    shot_boundaries: tuple[float, ...] = ()
    """When the picture changes at once, in seconds from the clip's first frame; timelines only."""
    window: int = 0
    """Number of the window, from 0."""
    crop: int = 0
    """Number of the crop, from 0: left to right, or top to bottom."""
    missing: bool = False
    """Whether the window could not be decoded; a warning says why. It then comes once, and not once a crop."""

    def rounded(self) -> npt.NDArray[np.uint8]:
        """The frames in whole levels, uint8 [T, H, W, 3]: for people, not for the model."""
        return rounded(self.frames)


def gap(spec: ClipSpec, window: int, start_seconds: float, end_seconds: float, reason: ClipError) -> Decoded:
    """A window that could not be decoded, and why."""
    return Decoded(
        frames=np.empty((0, spec.crop, spec.crop, 3), dtype=np.int16),
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        source_frames=0,
        source_fps=0.0,
        width=0,
        height=0,
        warnings=(missing(reason),),
        window=window,
        missing=True,
    )


def warnings_of(
    spec: ClipSpec, covered_seconds: float, frames: int, frame_seconds: float, damaged: int
) -> Iterator[ClipWarning]:
    """What the sender should know about a window.

    Args:
        spec: what the model eats.
        covered_seconds: from the window's start to the end of its last frame.
        frames: of the clip inside the window.
        frame_seconds: from one to the next.
        damaged: packets or frames with errors.
    """
    # The last frame of a clip may be shown for less than a frame's time: that is not a short clip.
    if covered_seconds < spec.window_seconds - 1.5 * frame_seconds:
        yield warning(
            "short_window",
            covered_seconds=max(0.0, covered_seconds),
            window_seconds=spec.window_seconds,
            frames=frames,
            num_frames=spec.num_frames,
        )
    elif frames < spec.num_frames:
        rate = 1 / frame_seconds if frames > 1 else 0.0
        yield warning("low_frame_rate", frames=frames, rate=rate, num_frames=spec.num_frames)
    if damaged:
        yield warning("corrupt_frames", damaged=damaged)
