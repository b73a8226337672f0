"""The clips for the measurements: generated, with texture everywhere, as in real footage."""

from __future__ import annotations

from functools import cache
from itertools import product

from testing.media import encode, textured_frames

SIZES = ((340, 256), (1280, 720), (1920, 1080))
"""Width and height in pixels."""
SECONDS = 4.5
FPS = 30


@cache
def video(width: int, height: int, gop: int = 250, b_frames: int = 2) -> bytes:
    """An H.264 MP4 of 4.5 s at 30 frames a second."""
    options = {"g": str(gop), "bf": str(b_frames), "preset": "medium" if height < 400 else "veryfast"}
    return encode(textured_frames(width, height, round(SECONDS * FPS)), FPS, options=options)


def kinds() -> list[tuple[int, int, int, int]]:
    """(width, height, GOP, B-frames) of all clips for the decoding benchmark."""
    return [(*size, gop, b_frames) for size, gop, b_frames in product(SIZES, (12, 250), (0, 2))]
