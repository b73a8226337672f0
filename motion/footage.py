"""Clips drawn by other code over real footage, which training has never seen.

They are drawn with OpenCV alone, and share no code with the training scenes. So a model that knows nothing but
those scenes is found out. The caller provides the footage; none comes with the project.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from motion.backdrops import to_and_fro, video_files
from motion.clips import MotionClip, encode
from motion.scene import LABELS
from motion.textures import Image

SIDE = 400
"""Edge of a sprite, in pixels."""
_CENTRE, _RADIUS = (SIDE // 2, SIDE // 2), 190
_WINDOW_SECONDS = 64 / 30
_SIZES = ((320, 240), (640, 360), (640, 480), (160, 120), (360, 640), (320, 180), (240, 320))
_MOST_FRAMES = 180
_WORDS = ("HELLO", "GO", "A", "7", "Hi!", "STOP", "R", "42")

Sprite = tuple[Image, int]
"""uint8 [SIDE, SIDE, 4] (RGB and opacity), and its rotational symmetry."""


def footage_clip(seed: int, folder: Path) -> MotionClip:
    """A clip with the label ``LABELS[seed % 8]``, drawn over a video in `folder`.

    Raises:
        ValueError: the folder has no video.
    """
    files = video_files(folder)
    rng = np.random.default_rng([seed, 77])
    label = LABELS[seed % len(LABELS)]
    width, height = _SIZES[rng.integers(len(_SIZES))]
    fps = int(rng.choice((10, 15, 24, 25, 30, 30, 60) if width < 600 else (15, 24, 25, 30)))
    times = np.arange(round(rng.uniform(2.2, 3.0) * fps)) / fps
    source = _pictures(files[rng.integers(len(files))])
    first, still = int(rng.integers(len(source))), rng.random() < 0.35
    sprite, symmetry = _sprite(rng, label.startswith("rotating"), files)
    pose = _motion(rng, label, symmetry, fps)
    noise = float(rng.choice((0.0, 0.0, 0.0, 6.0)))
    frames = []
    for time in times:
        picture = source[to_and_fro(first + (0 if still else int(time * 30)), len(source))]
        frame = _draw(_fit(picture, width, height), sprite, pose(float(time)))
        frames.append(np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8))
    data = encode(np.stack(frames), fps, crf=int(rng.integers(18, 36)))
    return MotionClip(data, label, width, height, fps, "libx264", seed)


@cache
def _pictures(path: Path) -> list[Image]:
    with av.open(str(path), "r", metadata_errors="replace") as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return [cast(Image, frame) for frame, _ in zip(frames, range(_MOST_FRAMES), strict=False)]


def _fit(picture: Image, width: int, height: int) -> Image:
    """The middle of a picture, resized to another size and shape."""
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    resized = cv2.resize(picture, (max(width, round(columns * scale)), max(height, round(rows * scale))))
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return cast(Image, resized[top : top + height, left : left + width])


Pose = tuple[float, float, float, float]
"""Centre x and y from the middle, and size, in lengths of the frame's shorter side; clockwise turn in
degrees."""


def _motion(rng: np.random.Generator, label: str, symmetry: int, fps: int) -> Callable[[float], Pose]:
    x, y = rng.uniform(-0.3, 0.3, 2)
    size = float(np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
    travel, eased = rng.uniform(0.2, 1.0), rng.random() < 0.25
    # Less than a third of the symmetry's angle per frame, or nobody can tell which way it turns.
    degrees = min(rng.uniform(60, 500), 120 / symmetry * min(15, fps))
    growth, smallest = float(np.exp(rng.uniform(np.log(1.4), np.log(5)))), rng.uniform(0.08, 0.25)
    growth = min(growth, 0.9 / smallest)
    turn = float(rng.choice((0.0, rng.uniform(0, 360))))
    sign = 1 if label in ("moving right", "moving down", "rotating clockwise") else -1

    def pose(time: float) -> Pose:
        done = time / _WINDOW_SECONDS
        if eased:
            done = min(done, 1.0) ** 2 * (3 - 2 * min(done, 1.0))
        along = sign * travel * (done - 0.5)
        if label in ("moving left", "moving right"):
            return along, y, size, turn
        if label in ("moving up", "moving down"):
            return x, along, size, turn
        if label.startswith("rotating"):
            return x, y, max(size, 0.15), turn + sign * degrees * time
        exponent = min(done, 1.2) if label == "growing" else max(1 - done, -0.2)
        return x, y, smallest * growth**exponent, turn

    return pose


def _draw(frame: Image, sprite: Image, pose: Pose) -> NDArray[np.float32]:
    """The frame with the sprite on it, float32 [H, W, 3]."""
    x, y, size, turn = pose
    height, width = frame.shape[:2]
    scale = size * min(width, height) / (2 * _RADIUS)
    matrix = cv2.getRotationMatrix2D(_CENTRE, -turn, scale)
    matrix[:, 2] += (
        width / 2 + x * min(width, height) - SIDE / 2,
        height / 2 + y * min(width, height) - SIDE / 2,
    )
    # Blurred before it is shrunk, as an editor would do; warping alone would skip pixels.
    smooth = cv2.blur(sprite, (max(1, round(0.7 / scale)),) * 2)
    placed = cv2.warpAffine(smooth, matrix, (width, height)).astype(np.float32)
    cover = placed[..., 3:] / 255
    return cast("NDArray[np.float32]", frame * (1 - cover) + placed[..., :3] * cover)


def _sprite(rng: np.random.Generator, turns: bool, files: tuple[Path, ...]) -> Sprite:
    """One of a dozen things that people put on videos; where it `turns`, it is not round."""
    picture, mask = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    colours = [[int(level) for level in rng.integers(0, 256, 3)] for _ in range(2)]
    kinds = ("square", "bar", "polygon", "star", "arrow", "word", "photo", "face", "halves")
    kind = str(rng.choice(kinds if turns else (*kinds, "circle")))
    picture[:] = colours[0]
    symmetry = 1
    if kind in ("circle", "face", "halves"):
        cv2.circle(mask, _CENTRE, _RADIUS, 255, -1)
    if kind == "square":
        cv2.rectangle(mask, (66, 66), (334, 334), 255, -1)
        symmetry = 4
    elif kind == "bar":
        cv2.rectangle(mask, (30, 120), (370, 280), 255, -1)
        symmetry = 2
    elif kind in ("polygon", "star"):
        symmetry = int(rng.integers(3, 7))
        inner = 0.45 if kind == "star" else float(np.cos(np.pi / symmetry))
        angles = np.pi * np.arange(2 * symmetry) / symmetry - np.pi / 2
        radii = _RADIUS * np.where(np.arange(2 * symmetry) % 2 == 0, 1.0, inner)
        corners = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1) + SIDE / 2
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    elif kind == "arrow":
        cv2.arrowedLine(mask, (30, 200), (370, 200), 255, 50, tipLength=0.4)
    elif kind == "word":
        word = _WORDS[rng.integers(len(_WORDS))]
        (wide, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1, 2)
        size = 340 / wide if wide > 60 else 5.0
        (wide, high), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, size, 22)
        corner = ((SIDE - wide) // 2, (SIDE + high) // 2)
        cv2.putText(mask, word, corner, cv2.FONT_HERSHEY_DUPLEX, size, 255, 22, cv2.LINE_AA)
    elif kind == "photo":
        source = _pictures(files[rng.integers(len(files))])
        picture = _fit(source[rng.integers(len(source))], SIDE, SIDE).copy()
        cv2.rectangle(mask, (60, 60), (340, 340), 255, -1)
    elif kind == "face":
        for eye in ((130, 150), (270, 150)):
            cv2.circle(picture, eye, 28, colours[1], -1)
        cv2.ellipse(picture, (200, 240), (90, 70), 0, 0, 180, colours[1], -1)
    elif kind == "halves":
        picture[:, SIDE // 2 :] = colours[1]
    return np.dstack([picture, mask]), symmetry
