"""Clips of six motions that the bundled model was not trained on, drawn with OpenCV alone.

They stand for a user's own videos: examples and tests learn from some of them and are tried on others. Over
real footage, which moves itself, they are hard.

    python -m testing.motions --out my_videos --clips 14 [--footage folder]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from motion.backdrops import Backdrops
from motion.clips import encode
from motion.textures import Image

MOTIONS = ("bouncing", "circling", "diagonally down", "diagonally up", "swinging", "zigzag")
"""The labels."""
_SIZES = ((320, 240), (640, 360), (160, 120), (240, 320), (320, 180))
_RATES = (15, 24, 25, 30)
_WINDOW_SECONDS = 64 / 30

Place = Callable[[float], tuple[float, float]]
"""Seconds -> x and y of the object's middle from the frame's, in lengths of its shorter side."""


def motion_clip(label: str, seed: int, backdrops: Backdrops | None = None) -> bytes:
    """An MP4 file of 2.2 to 3 s with one object; equal arguments give equal bytes.

    Args:
        label: one of `MOTIONS`.
        seed: decides size, rate, colours, shape, place, pace, and which footage.
        backdrops: for a background that moves; None: a still one.
    """
    rng = np.random.default_rng([seed, MOTIONS.index(label)])
    width, height = _SIZES[rng.integers(len(_SIZES))]
    rate = int(rng.choice(_RATES))
    place = _place(label, rng)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    background = cast(Image, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    color = [int(level) for level in rng.integers(0, 256, 3)]
    size, turn = float(np.exp(rng.uniform(np.log(0.15), np.log(0.45)))), float(rng.uniform(0, 360))
    shape = int(rng.integers(3))
    count = round(rng.uniform(2.2, 3.0) * rate)
    crf = int(rng.integers(20, 33))
    behind = backdrops.draw(rng) if backdrops else None
    times = [number / rate for number in range(count)]
    frames = [
        _drawn(behind(t, width, height) if behind else background, shape, color, place(t), size, turn)
        for t in times
    ]
    return encode(np.stack(frames), rate, crf=crf)


def write_folders(folder: Path, clips: int, seed: int = 0, backdrops: Backdrops | None = None) -> list[Path]:
    """Write a folder of clips for each motion; returns the paths of all clips."""
    paths = []
    for label in MOTIONS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(seed, seed + clips):
            path = folder / label / f"{number}.mp4"
            path.write_bytes(motion_clip(label, number, backdrops))
            paths.append(path)
    return paths


def _place(label: str, rng: np.random.Generator) -> Place:
    x, y = rng.uniform(-0.2, 0.2, 2)
    reach, travel = rng.uniform(0.12, 0.3), rng.uniform(0.4, 0.9)
    turns, phase = rng.uniform(0.5, 1.2), rng.uniform(0, 1)  # a second; of a turn

    def along(seconds: float) -> float:
        return float(travel * (seconds / _WINDOW_SECONDS - 0.5))

    def wave(seconds: float, quarter: float = 0.0) -> float:
        return float(reach * np.sin(2 * np.pi * (turns * seconds + phase + quarter)))

    def saw(seconds: float) -> float:
        return float(0.15 * (4 * abs((1.5 * turns * seconds + phase) % 1 - 0.5) - 1))

    def hop(seconds: float) -> float:
        return float(reach * (0.5 - abs(np.sin(np.pi * (turns * seconds + phase)))))

    places: dict[str, Place] = {
        "bouncing": lambda seconds: (x, y + hop(seconds)),
        "circling": lambda seconds: (x + wave(seconds, 0.25), y + wave(seconds)),
        "diagonally down": lambda seconds: (along(seconds), along(seconds)),
        "diagonally up": lambda seconds: (along(seconds), -along(seconds)),
        "swinging": lambda seconds: (x + wave(seconds), y),
        "zigzag": lambda seconds: (along(seconds), y + saw(seconds)),
    }
    return places[label]


def _drawn(
    background: Image, shape: int, color: Sequence[int], place: tuple[float, float], size: float, turn: float
) -> Image:
    """The background with a disc (shape 0), a square (1) or an ellipse (2)."""
    frame = background.copy()
    height, width = frame.shape[:2]
    short = min(width, height)
    x, y, radius = width / 2 + place[0] * short, height / 2 + place[1] * short, size * short / 2
    fixed = [round(value * 16) for value in (x, y, radius)]  # OpenCV's fixed point: four bits of fraction
    if shape == 1:
        corners = cv2.boxPoints(((x, y), (2 * radius, 2 * radius), turn))
        cv2.fillPoly(frame, [np.asarray(corners, np.int32)], color, cv2.LINE_AA)
    else:
        axes = (fixed[2], fixed[2] // (1 if shape == 0 else 2))
        cv2.ellipse(frame, (fixed[0], fixed[1]), axes, turn, 0, 360, color, -1, cv2.LINE_AA, 4)
    return frame


def main() -> int:
    """Write clips, a folder for each motion."""
    parser = argparse.ArgumentParser(prog="python -m testing.motions", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=14, help="of each motion")
    parser.add_argument("--seed", type=int, default=0, help="number of the first clip of each motion")
    parser.add_argument("--footage", type=Path, metavar="DIR", help="of videos, for backgrounds that move")
    options = parser.parse_args()
    backdrops = Backdrops(options.footage) if options.footage else None
    paths = write_folders(options.out, options.clips, options.seed, backdrops)
    sys.stdout.write(f"{len(paths)} clips in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
