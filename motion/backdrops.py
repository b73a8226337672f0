"""Real videos for the backgrounds of training scenes: small, in memory. None comes with the project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np

from motion.textures import Image

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
_SHORT_SIDE = 180
"""Pixels; about twice the model's, so that a part of the frame can be shown."""
_MOST_FRAMES = 150
_FRAMES_PER_SECOND = 25

Backdrop = Callable[[float, int, int], Image]
"""(seconds, width, height) -> the background alone, uint8 [height, width, 3]."""


def video_files(folder: Path) -> tuple[Path, ...]:
    """The videos in a folder, found by their file name's ending.

    Raises:
        ValueError: the folder has none.
    """
    files = tuple(sorted(path for path in folder.iterdir() if path.suffix in VIDEO_SUFFIXES))
    if not files:
        raise ValueError(f"{folder} has no video ({', '.join(VIDEO_SUFFIXES)})")
    return files


def to_and_fro(index: int, count: int) -> int:
    """The frame for an index of endless footage without shot boundaries: forwards, then backwards."""
    index %= max(1, 2 * count - 2)
    return index if index < count else 2 * count - 2 - index


class Backdrops:
    """The videos in a folder.

    Raises:
        ValueError: the folder has no video.
    """

    def __init__(self, folder: Path) -> None:
        self._videos = [_frames(path) for path in video_files(folder)]

    def picture(self, rng: np.random.Generator) -> Image:
        """A random frame, uint8 [H, W, 3]."""
        video = self._videos[rng.integers(len(self._videos))]
        return video[rng.integers(len(video))]

    def draw(self, rng: np.random.Generator) -> Backdrop:
        """A part of the frames of a random video, from a random moment on, at a random pace; often frozen."""
        video = self._videos[rng.integers(len(self._videos))]
        first = int(rng.integers(len(video)))
        pace = 0.0 if rng.random() < 0.3 else float(rng.uniform(0.5, 1.5)) * _FRAMES_PER_SECOND
        zoom, mirrored = float(rng.uniform(1.0, 2.2)), rng.random() < 0.5
        across, down = rng.uniform(0, 1, 2)

        def at(seconds: float, width: int, height: int) -> Image:
            frame = video[to_and_fro(first + int(pace * seconds), len(video))]
            rows, columns = frame.shape[:2]
            scale = min(columns / width, rows / height) / zoom
            part = (max(1, round(height * scale)), max(1, round(width * scale)))
            top, left = int(down * (rows - part[0])), int(across * (columns - part[1]))
            region = frame[top : top + part[0], left : left + part[1]]
            shown = cv2.resize(region[:, ::-1] if mirrored else region, (width, height))
            return cast(Image, shown)

        return at


def _frames(path: Path) -> list[Image]:
    frames: list[Image] = []
    with av.open(str(path), "r", metadata_errors="replace") as container:
        for frame in container.decode(video=0):
            scale = _SHORT_SIDE / min(frame.width, frame.height)
            size = (round(frame.width * scale), round(frame.height * scale))
            frames.append(
                cast(Image, cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_AREA))
            )
            if len(frames) == _MOST_FRAMES:
                break
    return frames
