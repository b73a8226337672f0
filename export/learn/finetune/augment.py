"""A training clip as it looks this time: the recipe's scale and crop, at random.

PySlowFast trains with short sides of 256 to 320 pixels and crops out of those. In a clip that was decoded with
the largest short side, that is a square of random size and place, resized to the crop.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from actionrec.spec import ClipSpec
from numpy.typing import NDArray

LARGEST = 320 / 256
"""Largest short side in training, by the one that serves."""


def larger(spec: ClipSpec) -> ClipSpec:
    """What training clips are decoded with: the whole square of the largest short side."""
    side = round(spec.short_side * LARGEST)
    return replace(spec, short_side=side, crop=side)


def varied(
    rng: np.random.Generator, frames: NDArray[np.uint8], spec: ClipSpec, *, mirror: bool
) -> NDArray[np.uint8]:
    """A random square of a clip; the same one in all of its frames.

    Args:
        rng: decides.
        frames: uint8 [T, S, S, 3], as `larger` has them.
        spec: what the model eats.
        mirror: exchange left and right in half of the cases.

    Returns:
        uint8 [T, crop, crop, 3]
    """
    largest, crop = frames.shape[1], spec.crop
    short_side = rng.uniform(spec.short_side, largest)
    side = round(crop * largest / short_side)
    top, left = rng.integers(0, largest - side + 1, 2)
    square = frames[:, top : top + side, left : left + side]
    if mirror and rng.random() < 0.5:
        square = square[:, :, ::-1]
    out = np.empty((len(frames), crop, crop, 3), np.uint8)
    for source, target in zip(square, out, strict=True):
        cv2.resize(np.ascontiguousarray(source), (crop, crop), dst=target, interpolation=cv2.INTER_LINEAR)
    return out
