"""Longer videos, put together from generated motions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from motion.clips import random_clip

FPS = 30
_SOUND_RATE = 16_000


def spliced(
    labels: Sequence[str], seconds_each: float, seed: int = 5, size: tuple[int, int] = (320, 240)
) -> bytes:
    """An MP4 of one motion after the other, with sound: a tone that starts at the beginning.

    Args:
        labels: of `motion`.
        seconds_each: how long each lasts.
        seed: of the scenes.
        size: width and height in pixels.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = output.add_stream("aac", rate=_SOUND_RATE)
        count = 0
        for number, label in enumerate(labels):
            clip = random_clip(
                seed + number, label, "libx264", size=size, fps=FPS, seconds=seconds_each, difficulty=0.2
            )
            with av.open(io.BytesIO(clip.data), "r") as source:
                for frame in source.decode(video=0):
                    again = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                    again.pts, again.time_base = count, Fraction(1, FPS)
                    output.mux(stream.encode(again))
                    count += 1
        wave = np.sin(np.arange(count * _SOUND_RATE // FPS) * (2 * np.pi * 440 / _SOUND_RATE)) * 0.1
        samples = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
        samples.sample_rate = _SOUND_RATE
        for media in (sound.encode(samples), sound.encode(None), stream.encode(None)):
            output.mux(media)
    return file.getvalue()
