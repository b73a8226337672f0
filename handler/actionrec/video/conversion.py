"""Frames are converted in a thread of their own, while the decoder works on the next ones.

    this thread      decode 0 | decode 1 | decode 2 | decode 3 |
    other thread              | convert 0| convert 1| convert 2| convert 3

Decoding releases the GIL, and so do all steps of a conversion. Where no core is free, nothing is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from typing import Protocol

from av.video.frame import VideoFrame

from .resize import Pixels

_WAITING = 4
"""The most decoded frames that wait for their conversion; one of 1080p takes 3 MB."""


class Converter(Protocol):
    """Brings decoded frames to the model's size: `resize.Resizer` does it on the CPU."""

    shown: tuple[int, int]
    """(width, height) of the last frame as shown, in pixels."""

    def write(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        """Convert a frame into arrays, int16 [crops, crop, crop, 3] each. They may be written later."""

    def finish(self) -> None:
        """Return when all that was given is written."""


class Conversion:
    """Converts frames one after the other.

    Args:
        converter: converts one frame.
        thread: an executor that runs one task at a time, in order.
    """

    def __init__(self, converter: Converter, thread: Executor) -> None:
        self._converter = converter
        self._thread = thread
        self._pending: deque[Future[None]] = deque()

    def start(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        """Queue a frame for conversion; waits while the queue is full.

        Args:
            frame: as it came out of the decoder.
            places: arrays that receive its pixels, int16 [crops, crop, crop, 3] each; read them after `finish`.

        Raises:
            Exception: raised by the conversion of an earlier frame.
        """
        while len(self._pending) >= _WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._converter.write, frame, places))

    def finish(self) -> None:
        """Wait until all frames are converted.

        Raises:
            Exception: raised by a conversion.
        """
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            wait(self._pending)
            self._pending.clear()
            self._converter.finish()
