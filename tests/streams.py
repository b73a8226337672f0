"""Videos to play as streams, and servers that play them."""

from __future__ import annotations

import numpy as np

from export.motion.recipe import random_scene
from tests.media import encode

SECONDS_EACH = 3.0


def motion_video(
    *labels: str,
    fps: float = 30,
    size: tuple[int, int] = (320, 240),
    container: str = "mp4",
    seconds_each: float = SECONDS_EACH,
) -> bytes:
    """Scenes of the `motion` model one after the other, as H.264.

    Args:
        labels: of the scenes.
        fps: frames a second.
        size: width and height in pixels.
        container: FFmpeg's name of a muxer.
        seconds_each: length of a scene.
    """
    parts = []
    for number, label in enumerate(labels):
        times = np.arange(round(seconds_each * fps)) / fps
        scene = random_scene(np.random.default_rng(7 + number), label, 0.2, seconds=seconds_each, fps=fps)
        parts.append(scene.render(*size, times))
    options = {"g": "30", "bf": "2", "preset": "veryfast", "crf": "18"}
    return encode(np.concatenate(parts), fps, container=container, options=options)
