"""Pictures -> a video file that a server can decode."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

Pixels = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How pictures are coded for their way to the server."""

    codec: str
    """FFmpeg's name of an encoder whose decoder is on the server's list
    (`actionrec.video.container.CODECS`)."""
    pix_fmt: str
    """FFmpeg's name of the pixel format that is coded."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the encoder."""
    container: str = "mp4"
    """FFmpeg's name of a muxer."""


EXACT = Coding("libx264rgb", "rgb24", {"preset": "ultrafast", "qp": "0"})
"""Lossless: each pixel comes out as it went in."""

SMALL = Coding("libx264", "yuv444p", {"preset": "ultrafast", "crf": "10", "bf": "0"})
"""Less than half the bytes, for slow lines. Both are measured by ``benchmarks/stream_encoding.py``."""


def encode_pictures(
    pictures: Iterable[Pixels], frame_seconds: Fraction, coding: Coding = EXACT, *, threads: int = 0
) -> bytes:
    """Code pictures as a video of constant rate.

    Args:
        pictures: at least one uint8 [H, W, 3], all of the same size, in order. Each is copied before the next
            one is asked for, so they may share their memory.
        frame_seconds: from one picture to the next.
        coding: how.
        threads: of the encoder; 0: as many as it likes.
    """
    file = io.BytesIO()
    reformatter = VideoReformatter()
    with av.open(file, "w", format=coding.container) as output:
        stream = cast(
            VideoStream, output.add_stream(coding.codec, rate=1 / frame_seconds, options=dict(coding.options))
        )
        stream.pix_fmt = coding.pix_fmt
        stream.codec_context.time_base = frame_seconds
        stream.codec_context.thread_count = threads
        for index, pixels in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = reformatter.reformat(picture, format=coding.pix_fmt, threads=1)
            frame.pts, frame.time_base = index, frame_seconds
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()
