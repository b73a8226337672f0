"""The result of decoding: the sampled frames of one view, their place in the video, and its warnings."""

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
    """Start of the window, in seconds from the video's first frame."""
    end_seconds: float
    """End of the window's frames, in seconds: earlier than requested where the video is shorter."""
    source_frames: int
    """Frames of the video inside the window, before sampling."""
    source_fps: float
    """Frames a second inside the window; 0 where it has one frame only."""
    width: int
    """Pixels of the video as shown (after rotation)."""
    height: int
    """Pixels of the video as shown (after rotation)."""
    codec: str = ""
    """How the video is coded, by FFmpeg's name: ``h264``; empty if `missing`."""
    warnings: tuple[ClipWarning, ...] = ()
    shot_boundaries: tuple[float, ...] = ()
    """Seconds from the video's first frame at which the picture changes at once; timelines only."""
    window: int = 0
    """Number of the window, from 0."""
    frame_seconds: tuple[float, ...] = ()
    """Seconds of each of the T frames from the video's first one; a frame that is sampled twice has two."""
    crop: int = 0
    """Number of the crop, from 0: left to right, or top to bottom."""
    missing: bool = False
    """Whether the window could not be decoded; a warning says why. Such a window comes once, not once per
    crop."""

    def rounded(self) -> npt.NDArray[np.uint8]:
        """The frames as uint8 [T, H, W, 3]: for people, not for the model."""
        return rounded(self.frames)


def gap(spec: ClipSpec, window: int, start_seconds: float, end_seconds: float, reason: ClipError) -> Decoded:
    """The `Decoded` of a window that could not be decoded, with the reason as its warning."""
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
    """The warnings for a window.

    Args:
        spec: what the model eats.
        covered_seconds: time from the window's start to the end of its last frame.
        frames: frames of the video inside the window.
        frame_seconds: time from one frame to the next.
        damaged: packets or frames with errors.
    """
    # A video's last frame may be shown for less than a frame's time; that does not make the window short.
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
