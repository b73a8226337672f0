"""Generated clips as the server sees them: encoded files, decoded by `actionrec`.

They calibrate random weights, and the parity check compares models on them.
"""

from __future__ import annotations

import numpy as np
import torch
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec
from actionrec.video.decode import decode
from torch import Tensor, nn

SIZE = (340, 256)
"""Width and height of the generated clips, in pixels: 4:3, as much of Kinetics is."""
FRAMES_PER_SECOND = 30


def sample_clips(spec: ClipSpec, count: int, seed: int) -> Tensor:
    """Different clips; the same seed gives the same clips.

    Args:
        spec: what the model eats.
        count: number of clips.
        seed: seed of the first clip; each one after it has the next number.

    Returns:
        int16 [count, T, H, W, 3], as `decode` gives them.
    """
    from motion.clips import random_clip
    from motion.scene import LABELS

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


def calibration_clips(spec: ClipSpec, count: int, seed: int) -> Tensor:
    """Half `sample_clips`, half moving noise with coarse and fine grain, brightness and contrast at random.

    Returns:
        int16 [count, T, H, W, 3]; scenes and noise alternate, so that every batch has both.
    """
    scenes = sample_clips(spec, count - count // 2, seed)
    generator = torch.Generator().manual_seed(seed)
    shape = (spec.num_frames, spec.crop, spec.crop)
    clips = []
    for index in range(count):
        if index % 2 == 0:
            clips.append(scenes[index // 2])
            continue
        coarse = torch.rand(1, 3, 4, 16, 16, generator=generator)
        fine = torch.rand(1, 3, spec.num_frames, spec.crop // 2, spec.crop // 2, generator=generator)
        smooth = nn.functional.interpolate(coarse, shape, mode="trilinear", align_corners=False)
        noise = 0.6 * smooth + 0.4 * nn.functional.interpolate(fine, shape)
        contrast, brightness = torch.rand(2, generator=generator)
        levels = (noise * (0.2 + 0.8 * contrast) + 0.3 * brightness).clamp(0, 1) * 255
        clips.append((levels * STEPS_PER_LEVEL).to(torch.int16)[0].permute(1, 2, 3, 0))
    return torch.stack(clips)
