"""The stream's picture with the labels on it: as a page for a browser, as a file, or both.

One thread draws and codes. Where it cannot keep up, pictures are left out.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
import cv2
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..files.draw import Picture, draw_labels
from .events import Label
from .upright import Upright

logger = logging.getLogger(__name__)

_MOST_WIDE = 1280
_MOST_WAITING = 8
_SHOWN_LABELS = 3
_TIME_BASE = Fraction(1, 90_000)


class Sink(Protocol):
    """Where finished pictures go."""

    def add(self, picture: Picture, seconds: float) -> None:
        """Take a picture at a time of the stream."""

    def close(self) -> None:
        """No more will come."""


class Painter:
    """Draws the latest labels on frames and hands them on. Use it in a ``with`` statement.

    Args:
        sinks: where pictures go.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._upright = Upright(_MOST_WIDE)
        self._waiting: deque[tuple[VideoFrame, float]] = deque(maxlen=_MOST_WAITING)
        self._changed = threading.Condition()
        self._closed = False
        self._labels: Sequence[Label] = ()
        self._thread = threading.Thread(target=self._run, name="paint", daemon=True)
        self.error: Exception | None = None
        """Why no more pictures are made; None while they are."""

    def add(self, frame: VideoFrame, seconds: float) -> None:
        """Take a frame; returns at once."""
        with self._changed:
            self._waiting.append((frame, seconds))
            self._changed.notify()

    def label(self, predictions: Sequence[Label]) -> None:
        """What to write on the frames from now on."""
        self._labels = predictions[:_SHOWN_LABELS]

    def __enter__(self) -> Painter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5.0)
        if self._thread.is_alive():
            self.error = TimeoutError("the last pictures are not written")
            return
        try:
            for sink in self._sinks:
                sink.close()
        except (av.FFmpegError, OSError) as error:
            self.error = self.error or error

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                frame, seconds = item
                picture = self._upright(frame)
                labels = [(str(entry["label"]), float(entry["score"])) for entry in self._labels]
                draw_labels(picture, labels, f"{seconds:.1f} s")
                for sink in self._sinks:
                    sink.add(picture, seconds)
        except Exception as error:
            logger.exception("No more pictures are made")
            self.error = error

    def _next(self) -> tuple[VideoFrame, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None


class VideoFile:
    """An MP4 that grows; what is written can be played even if the program is killed.

    Args:
        path: where to; an old file is overwritten.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.open("wb").close()  # a clear error now, and not with the first frame
        self._path = path
        self._output: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last = -1

    def add(self, picture: Picture, seconds: float) -> None:
        """Write one picture. One of another size than the first is scaled to the first one's size."""
        if self._output is None or self._stream is None:
            movable = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
            self._output = av.open(str(self._path), "w", format="mp4", options=movable)
            options = {"preset": "veryfast", "crf": "23", "g": "60", "bf": "0"}
            self._stream = self._output.add_stream("libx264", rate=30, options=options)
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = _TIME_BASE
            self._stream.codec_context.thread_count = 1
        ticks = round(seconds / _TIME_BASE)
        if ticks <= self._last:
            return
        self._last = ticks
        size = (self._stream.width, self._stream.height)
        if (picture.shape[1], picture.shape[0]) != size:
            picture = cast(Picture, cv2.resize(picture, size))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = ticks, _TIME_BASE
        self._output.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        if self._output is not None and self._stream is not None:
            self._output.mux(self._stream.encode(None))
            self._output.close()
            self._output = None
