"""Whether an explanation points at what moves in a generated clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actionrec_client import Box, Explanation
from motion.clips import MotionClip
from motion.scene import Floats

TOLERANCE = 15 / 256
"""Of the crop's edge, by which a point may miss an object: the 15 pixels of the pointing game (Zhang et al.,
"Top-down Neural Attention by Excitation Backprop", 2016)."""


@dataclass(frozen=True, slots=True)
class Pointing:
    """What an explanation's peak is on, during its step."""

    place: bool
    """Whether the object is in the peak's place of the map, or reaches into it."""
    point: bool
    """Whether the peak's point is on the object, to within `TOLERANCE`."""


def pointing(explanation: Explanation, clip: MotionClip) -> Pointing:
    """Compare an explanation's peak with the place of the clip's main object."""
    peak = explanation.peak()
    discs = clip.discs(np.linspace(peak.start_seconds, peak.end_seconds, 5))
    spare = TOLERANCE * explanation.views[peak.view].box.width
    away = np.hypot(discs[:, 0] - peak.x, discs[:, 1] - peak.y)
    return Pointing(reaches(discs, peak.cell), bool((away <= discs[:, 2] + spare).any()))


def by_chance(explanation: Explanation, clip: MotionClip) -> float:
    """How often a place and a time that are drawn at random would have the object in it, 0 to 1."""
    hits = [
        reaches(
            clip.discs(np.linspace(*view.step(step), 5)),
            Box(
                view.box.left + column * view.box.width / columns,
                view.box.top + row * view.box.height / rows,
                view.box.width / columns,
                view.box.height / rows,
            ),
        )
        for view in explanation.views
        for steps, rows, columns in [view.cells().shape]
        for step, row, column in np.ndindex(steps, rows, columns)
    ]
    return float(np.mean(hits))


def reaches(discs: Floats, box: Box) -> bool:
    """Whether one of the discs, float64 [T, 3], reaches into a box."""
    x, y, radius = discs.T
    across = np.maximum(np.maximum(box.left - x, x - box.left - box.width), 0)
    down = np.maximum(np.maximum(box.top - y, y - box.top - box.height), 0)
    return bool((np.hypot(across, down) <= radius).any())
