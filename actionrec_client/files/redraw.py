"""A copy of a video with something drawn into each picture. Sound is copied as it is, and so are the times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import Refused
from ..timeline.remux import NotCuttable, opened, video_stream
from .draw import Picture

_QUALITY = {"crf": "20", "preset": "veryfast"}
_CLOCK = 90_000
"""Ticks a second of the written video."""

Draw = Callable[[Picture, float], None]
"""Called with a picture, uint8 [H, W, 3], RGB, upright, which it may change, and its time in seconds from the
video's first frame."""


def redraw(source: Path, output: Path, draw: Draw, on_progress: Callable[[float], None] | None = None) -> None:
    """Write a copy of a video with something drawn in.

    Args:
        source: the video.
        output: where to; its suffix says in which container. The video in it is H.264.
        draw: changes each picture.
        on_progress: called with the seconds of video that are done.

    Raises:
        Refused: `source` cannot be read, or `output` not be written.
    """
    try:
        with opened(source) as container, av.open(str(output), "w") as result:
            for seconds in _Copy(container, result, draw).run():
                if on_progress:
                    on_progress(seconds)
    except (av.FFmpegError, OSError, ValueError, NotCuttable) as error:
        message = f"{source} could not be drawn into {output}: {error}."
        raise Refused("NOT_ANNOTATED", 0, message, "Give it a name that ends in .mp4 or .mkv.") from error


class _Copy:
    """One video on its way from a container into another."""

    def __init__(self, source: InputContainer, result: OutputContainer, draw: Draw) -> None:
        self._draw = draw
        self._source, self._result = source, result
        self._video = video_stream(source)
        self._video.codec_context.thread_type = "AUTO"
        rate = self._video.average_rate or Fraction(30)
        self._rate, self._count = float(self._video.guessed_rate or rate), 0
        self._drawn = result.add_stream("libx264", rate=rate, options=_QUALITY)
        # The source's times are kept, a variable rate too.
        self._drawn.codec_context.time_base = self._drawn.time_base = Fraction(1, _CLOCK)
        self._drawn.pix_fmt = "yuv420p"
        self._sound = next(iter(source.streams.audio), None)
        self._copied = _copied(result, self._sound)
        self._waiting: list[Packet[AudioStream]] = []
        self._origin: float | None = None
        self._begun = False

    def run(self) -> Iterator[float]:
        """Copy the video; gives the seconds that are done."""
        streams = [self._video] if self._sound is None else [self._video, self._sound]
        for packet in self._source.demux(streams):
            if packet.stream.type == "audio":
                if self._copied is not None and packet.dts is not None:
                    self._waiting.append(cast("Packet[AudioStream]", packet))
                continue
            for frame in self._video.codec_context.decode(cast("Packet[VideoStream]", packet)):
                # A bare stream has a rate, but no times.
                yield self._picture(frame, self._count / self._rate if frame.time is None else frame.time)
                self._count += 1
            self._copy_sound()
        self._result.mux(self._drawn.encode(None))
        self._copy_sound()

    def _picture(self, frame: VideoFrame, time: float) -> float:
        self._origin = time if self._origin is None else self._origin
        seconds = time - self._origin
        pixels = _even(_upright(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), frame.rotation))
        self._draw(pixels, seconds)
        if not self._begun:
            self._drawn.width, self._drawn.height = pixels.shape[1], pixels.shape[0]
            self._begun = True
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
        self._result.mux(self._drawn.encode(picture))
        return seconds

    def _copy_sound(self) -> None:
        # The encoder is opened by its first picture; before that nothing can be written.
        if not self._begun or self._copied is None:
            return
        for packet in self._waiting:
            packet.stream = self._copied
            self._result.mux(packet)
        self._waiting.clear()


def _copied(result: OutputContainer, sound: AudioStream | None) -> AudioStream | None:
    if sound is None:
        return None
    try:
        return result.add_stream_from_template(sound)
    except ValueError:  # a codec that this container does not take: better silent than nothing
        return None


def _upright(pixels: Picture, degrees: int) -> Picture:
    return np.rot90(pixels, k=round(degrees / 90) % 4) if degrees else pixels


def _even(pixels: Picture) -> Picture:
    """H.264 in 4:2:0 takes even sides only."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[: height - height % 2, : width - width % 2])
