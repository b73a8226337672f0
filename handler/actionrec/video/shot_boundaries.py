"""Frames of a window -> where the picture changes at once. Numpy and OpenCV.

    change from one sampled frame to the next      _ . _ . _ | _ . _ _ .       seen on a coarse grid
                                                             ^ a shot boundary: large, and several times its
                                                             neighbours

What moves, flickers or pans changes the picture about as much before and after; a flash changes it twice. So
neither is a shot boundary, nor is a fade.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..spec import STEPS_PER_LEVEL
from .resize import Pixels

_GRID = 8
"""Cells along each side: noise and small objects vanish in them, another place or camera does not."""

_ROWS = 4
"""Of a cell's rows that are read, evenly: its mean hardly needs more, and all take several times as long."""

LEAST_CHANGE = 4.0
"""Mean over the cells, in levels of 255."""

STANDS_OUT = 3.0
"""Times the largest change beside it."""

_BESIDE = 4
"""Sampled frames on each side that a shot boundary is compared with."""


def shot_boundaries(frames: Pixels) -> list[int]:
    """Where the picture of a window changes at once.

    Args:
        frames: int16 [T, H, W, 3], sampled frames in order.

    Returns:
        Each n for which a shot boundary lies after frame n and no later than at frame n + 1.
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
