"""The video again, with the label and score of each moment drawn in; sound is copied as it is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import Refused
from ..results import Segment, Timeline
from ..timeline.remux import NotCuttable, opened, video_stream

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT, _BACK = (255, 255, 255), (24, 24, 24)
_QUALITY = {"crf": "20", "preset": "veryfast"}
_CLOCK = 90_000

Pixels = npt.NDArray[np.uint8]


def annotate(
    source: Path, timeline: Timeline, output: Path, on_progress: Callable[[float], None] | None = None
) -> None:
    """Write the video with its segments' labels.

    Args:
        source: the video.
        timeline: of it.
        output: an MP4 (or what else its suffix says) in H.264.
        on_progress: called with the seconds that are done.

    Raises:
        Refused: the video cannot be read, or the other not be written.
    """
    try:
        with opened(source) as container, av.open(str(output), "w") as result:
            drawing = _Drawing(timeline, container, result)
            for seconds in drawing.run():
                if on_progress:
                    on_progress(seconds)
    except (av.FFmpegError, OSError, ValueError, NotCuttable) as error:
        message = f"{source} could not be drawn into {output}: {error}."
        raise Refused("NOT_ANNOTATED", 0, message, "Give it a name that ends in .mp4 or .mkv.") from error


class _Drawing:
    """One video on its way from a container into another."""

    def __init__(self, timeline: Timeline, source: InputContainer, result: OutputContainer) -> None:
        self._timeline = timeline
        self._starts = [segment.start_seconds for segment in timeline.segments]
        self._source, self._result = source, result
        self._video = video_stream(source)
        self._video.codec_context.thread_type = "AUTO"
        rate = self._video.average_rate or Fraction(30)
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
        """Do it; gives the seconds that are done."""
        streams = [self._video] if self._sound is None else [self._video, self._sound]
        for packet in self._source.demux(streams):
            if packet.stream.type == "audio":
                if self._copied is not None and packet.dts is not None:
                    self._waiting.append(cast("Packet[AudioStream]", packet))
                continue
            for frame in self._video.codec_context.decode(cast("Packet[VideoStream]", packet)):
                if frame.time is not None:
                    yield self._picture(frame, frame.time)
            self._copy_sound()
        self._result.mux(self._drawn.encode(None))
        self._copy_sound()

    def _picture(self, frame: VideoFrame, time: float) -> float:
        self._origin = time if self._origin is None else self._origin
        seconds = time - self._origin
        pixels = _upright(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), frame.rotation)
        pixels = _even(draw(pixels, _at(self._timeline, self._starts, seconds)))
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


def draw(pixels: Pixels, segment: Segment | None) -> Pixels:
    """A picture with a label in its lower left corner.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        segment: what to say; None: nothing.

    Returns:
        uint8 [H, W, 3], a new array where something is drawn.
    """
    if segment is None:
        return pixels
    height, width = pixels.shape[:2]
    text, score = segment.label, f"{segment.score:.2f}"
    scale, thick = _fitting(f"{text}  {score}", width, height)
    (text_width, text_height), below = cv2.getTextSize(f"{text}  {score}", _FONT, scale, thick)
    pad = max(3, text_height // 2)
    top = height - text_height - below - 2 * pad
    drawn: Pixels = np.ascontiguousarray(pixels).copy()
    strip = drawn[top:, : text_width + 2 * pad]
    strip[:] = (strip * 0.25 + np.array(_BACK) * 0.75).astype(np.uint8)
    cv2.putText(drawn, f"{text}  {score}", (pad, height - pad - below), _FONT, scale, _TEXT, thick, cv2.LINE_AA)
    # The score once more as a bar along the strip's lower edge.
    length = round((text_width + 2 * pad) * segment.score)
    drawn[height - max(2, pad // 3) :, :length] = (66, 105, 208)
    return drawn


def _fitting(text: str, width: int, height: int) -> tuple[float, int]:
    """Scale and thickness: a sixteenth of the height, less where the text would not fit."""
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, 1.0, 2)
    scale = min(height / 16 / text_height, 0.9 * width / text_width)
    return scale, max(1, round(2 * scale))


def _at(timeline: Timeline, starts: list[float], seconds: float) -> Segment | None:
    number = bisect_right(starts, seconds) - 1
    if number < 0 or seconds >= timeline.segments[number].end_seconds:
        return None
    return timeline.segments[number]


def _copied(result: OutputContainer, sound: AudioStream | None) -> AudioStream | None:
    if sound is None:
        return None
    try:
        return result.add_stream_from_template(sound)
    except ValueError:  # a codec that this container does not take: better silent than nothing
        return None


def _upright(pixels: Pixels, degrees: int) -> Pixels:
    return np.rot90(pixels, k=round(degrees / 90) % 4) if degrees else pixels


def _even(pixels: Pixels) -> Pixels:
    """H.264 in 4:2:0 takes even sides only."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[: height - height % 2, : width - width % 2])
