"""Videos of several actions whose edges are known."""

from __future__ import annotations

import numpy as np

from motion.recipe import random_scene
from motion.scene import LABELS

from .media import encode

STRIDE_SECONDS = 0.5
"""Between windows of a timeline, where these videos are looked at."""
FPS = 30


def spliced(seed: int, size: tuple[int, int]) -> tuple[bytes, list[str], list[float]]:
    """One H.264 file of all eight motions, each for three to four seconds, cut hard one after the other.

    Returns:
        the file, the labels in order, and the time in seconds at which each begins; last, when all ends.
    """
    rng = np.random.default_rng(seed)
    labels = [LABELS[i] for i in rng.permutation(len(LABELS))]
    counts = rng.integers(3 * FPS, 4 * FPS, len(labels))
    frames = []
    for label, count in zip(labels, counts, strict=True):
        scene = random_scene(rng, label, 0.0, seconds=count / FPS, fps=FPS)
        frames.append(scene.render(*size, np.arange(count) / FPS))
    return encode(np.concatenate(frames), FPS), labels, [0.0, *(np.cumsum(counts) / FPS).tolist()]
