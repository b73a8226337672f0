"""The frames of one window -> a small video file from which the server takes exactly these frames.

The server resizes frames to the model's short side, crops the middle, and samples as many as the model eats. So
a frame travels in the middle of a square of the short side, which the resize leaves as it is. And there are as
many frames as the model eats, evenly spaced over the window, so that sampling takes each of them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from actionrec.spec import ClipSpec

from ..encoding import EXACT, SMALL, Coding, encode_pictures

__all__ = ["EXACT", "SMALL", "Coding", "Frame", "encode"]

Frame = npt.NDArray[np.uint8]
"""uint8 [crop, crop, 3], RGB."""


def encode(frames: list[Frame], spec: ClipSpec, coding: Coding = EXACT) -> bytes:
    """A video file of one window.

    Args:
        frames: `num_frames` of uint8 [crop, crop, 3], in order.
        spec: what the model eats.
        coding: how.

    Raises:
        ValueError: another number of frames than the model eats.
    """
    if len(frames) != spec.num_frames:
        raise ValueError(f"a window has {spec.num_frames} frames, got {len(frames)}")
    frame_seconds = spec.sampling_rate / Fraction(spec.fps).limit_denominator(1001)
    # So small a clip gains nothing from threads, and there are others who want the cores.
    return encode_pictures(_squares(frames, spec), frame_seconds, coding, threads=1)


def _squares(frames: list[Frame], spec: ClipSpec) -> Iterator[npt.NDArray[np.uint8]]:
    """Each frame in the middle of a square of the short side: the same array again and again."""
    canvas = np.zeros((spec.short_side, spec.short_side, 3), dtype=np.uint8)
    # Rounded as the server's centre crop is.
    edge = round((spec.short_side - spec.crop) / 2)
    for pixels in frames:
        canvas[edge : edge + spec.crop, edge : edge + spec.crop] = pixels
        yield canvas
