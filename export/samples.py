"""Generated clips as the server would see them: encoded files, decoded by `actionrec`.

What calibrates random weights and what the parity check compares models on.
"""

from __future__ import annotations

import numpy as np
import torch
from actionrec.decode import decode
from actionrec.spec import ClipSpec
from torch import Tensor

SIZE = (340, 256)
"""Width and height of the generated clips, in pixels: 4:3, as much of Kinetics is."""
FRAMES_PER_SECOND = 30


def sample_clips(spec: ClipSpec, count: int, seed: int) -> Tensor:
    """Different clips, the same ones for the same seed.

    Args:
        spec: what the model eats.
        count: number of clips.
        seed: of the first one; the next has the next.

    Returns:
        uint8 [count, T, H, W, 3], RGB, at the spec's size.
    """
    from .motion.clips import random_clip
    from .motion.scene import LABELS

    clips = [
        random_clip(
            seed + index,
            LABELS[index % len(LABELS)],
            "libx264",
            size=SIZE,
            fps=FRAMES_PER_SECOND,
            seconds=spec.window_seconds,
        )
        for index in range(count)
    ]
    return torch.from_numpy(np.stack([decode(clip.data, spec).frames for clip in clips]))
