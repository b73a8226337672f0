"""Frames converted in a thread of their own, while the decoder is at work on the next ones.

    this thread      decode 0 | decode 1 | decode 2 | decode 3 |
    the other                 | convert 0| convert 1| convert 2| convert 3

Decoding lets go of the GIL, and so do all steps of a conversion. Where no core is free nothing is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future

from av.video.frame import VideoFrame

from .resize import Pixels, Resizer

_WAITING = 4
"""Decoded frames that wait for their conversion, at most: one of 1080p takes 3 MB."""


class Conversion:
    """Converts frames one after the other.

    Args:
        resize: converts one.
        thread: runs what it is given one at a time, in order.
    """

    def __init__(self, resize: Resizer, thread: Executor) -> None:
        self._resize = resize
        self._thread = thread
        self._pending: deque[Future[None]] = deque()

    def start(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        """Convert a frame soon; waits while too many are before it.

        Args:
            frame: as it came out of the decoder.
            places: where its pixels go, int16 [crops, crop, crop, 3] each; to be read after `finish`.

        Raises:
            Exception: what converting an earlier frame has raised.
        """
        while len(self._pending) >= _WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._convert, frame, places))

    def finish(self) -> None:
        """Wait until all are converted.

        Raises:
            Exception: what converting one has raised.
        """
        while self._pending:
            self._pending.popleft().result()

    def _convert(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        pixels = self._resize(frame)
        for place in places:
            place[...] = pixels
