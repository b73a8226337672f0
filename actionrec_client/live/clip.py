"""The frames of one window -> a small video file from which the server takes exactly these frames.

The server resizes what it gets to the model's short side and crops the middle. So frames travel as squares of
the short side, on which the resize does nothing, with the crop in the place where the server looks for it; and
as many as the model eats, evenly spaced over the window, so that its sampling takes each of them once.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from actionrec.spec import ClipSpec
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

Frame = npt.NDArray[np.uint8]
"""uint8 [crop, crop, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How frames are coded for their way to the server."""

    codec: str
    """FFmpeg's name of an encoder whose decoder is on the server's list
    (`actionrec.video.container.CODECS`)."""
    pix_fmt: str
    options: Mapping[str, str] = field(default_factory=dict)
    container: str = "mp4"
    """FFmpeg's name of a muxer."""


EXACT = Coding("libx264rgb", "rgb24", {"preset": "ultrafast", "qp": "0"})
"""Lossless: the model sees each pixel as it was, rounded to a whole level of 255."""

SMALL = Coding("libx264", "yuv444p", {"preset": "ultrafast", "crf": "10", "bf": "0"})
"""Less than half the bytes, for slow lines. Both are measured by ``benchmarks/stream_encoding.py``."""


def encode(frames: list[Frame], spec: ClipSpec, coding: Coding = EXACT) -> bytes:
    """A video file of one window.

    Args:
        frames: `num_frames` of uint8 [crop, crop, 3], in order.
        spec: what the model eats.
        coding: how.

    Raises:
        ValueError: another number of frames than the model eats.
    """
    if len(frames) != spec.num_frames:
        raise ValueError(f"a window has {spec.num_frames} frames, got {len(frames)}")
    spacing = spec.sampling_rate / Fraction(spec.fps).limit_denominator(1001)
    file = io.BytesIO()
    canvas = np.zeros((spec.short_side, spec.short_side, 3), dtype=np.uint8)
    # Rounded as the server's centre crop is.
    edge = round((spec.short_side - spec.crop) / 2)
    reformatter = VideoReformatter()
    with av.open(file, "w", format=coding.container) as output:
        stream = cast(
            VideoStream, output.add_stream(coding.codec, rate=1 / spacing, options=dict(coding.options))
        )
        stream.width = stream.height = spec.short_side
        stream.pix_fmt = coding.pix_fmt
        stream.codec_context.time_base = spacing
        # So small a clip gains nothing from threads, and there are others who want the cores.
        stream.codec_context.thread_count = 1
        for index, pixels in enumerate(frames):
            canvas[edge : edge + spec.crop, edge : edge + spec.crop] = pixels
            picture = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            frame = reformatter.reformat(picture, format=coding.pix_fmt, threads=1)
            frame.pts, frame.time_base = index, spacing
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()
