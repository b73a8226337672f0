"""The frames of a window -> its shot boundaries, where the picture changes at once. Numpy and OpenCV.

    change from one sampled frame to the next      _ . _ . _ | _ . _ _ .       seen on a coarse grid
                                                             ^ a shot boundary: large, and several times its
                                                             neighbours

Motion, flicker and pans change the picture about as much before and after; a flash changes it twice, and a fade
slowly. So none of these is a shot boundary.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..spec import STEPS_PER_LEVEL
from .resize import Pixels

_GRID = 8
"""Cells along each side: noise and small objects vanish in them; a new place or camera does not."""

_ROWS = 4
"""Rows of a cell that are read, evenly spaced: its mean hardly needs more, and all would take several times as
long."""

LEAST_CHANGE = 4.0
"""Least change at a shot boundary: mean over the cells, in levels of 255."""

STANDS_OUT = 3.0
"""How many times the largest change beside it a shot boundary must be."""

_BESIDE = 4
"""Sampled frames on each side that a shot boundary is compared with."""


def shot_boundaries(frames: Pixels) -> list[int]:
    """Find the shot boundaries in a window.

    Args:
        frames: int16 [T, H, W, 3], sampled frames in order.

    Returns:
        Each n for which the boundary lies after frame n and no later than at frame n + 1.
    """
    rows = frames[:, :: max(1, frames.shape[1] // (_GRID * _ROWS))]
    cells = np.stack([cv2.resize(frame, (_GRID, _GRID), interpolation=cv2.INTER_AREA) for frame in rows])
    changes = np.abs(np.diff(cells.astype(np.float32), axis=0)).mean(axis=(1, 2, 3)) / STEPS_PER_LEVEL
    found = []
    for place in np.flatnonzero(changes >= LEAST_CHANGE).tolist():
        beside = np.delete(changes[max(0, place - _BESIDE) : place + _BESIDE + 1], min(place, _BESIDE))
        if changes[place] >= STANDS_OUT * beside.max(initial=0.0):
            found.append(place)
    return found
