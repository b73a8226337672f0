"""The timeline of a video of any length: in one request where a server takes it so, else part by part.

The windows are those of one request for all of it (`sampling.spread` says which), each part is cut from the
file for a run of them, and the replies are put together again: times mapped back, segments merged by the very
function that the server uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.request import DEFAULT_TOP_K
from actionrec.sampling import Selection, Windows, spread
from actionrec.video.container import Source

from .. import video
from ..errors import Refused, ServerError
from ..results import Timeline
from .merge import Piece, merged, span
from .remux import NotCuttable, Part, VideoFile

STRIDE_SECONDS = 1.0
"""From one window to the next, where nothing else is asked for."""
_FORM_BYTES = 4096  # of a request, for what is not the video
# A part without one good window is refused as a request; in the whole video it is a gap.
_GAPS = frozenset({"NO_FRAMES", "CORRUPT_VIDEO", "START_BEYOND_END"})
# Fewer windows may yet be done in time: large pictures, a slow model.
_TOO_MUCH = frozenset({"TOO_MANY_WINDOWS", "DECODE_TIMEOUT", "OUT_OF_TIME"})

Progress = Callable[[int, int], None]
"""Called with the windows that are done and those that there are."""


class Server(Protocol):
    """What a timeline needs of a client."""

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a file with options, and return the reply."""

    def describe(self) -> dict[str, Any]:
        """What is served: ``spec``, and the number of ``labels``."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What has to be known of the model to cut a video for it."""

    window_seconds: float
    labels: int | None
    """None: not known, so segments and means are made of the best labels only."""


@dataclass(frozen=True, slots=True)
class LongVideo:
    """One timeline that is wanted."""

    server: Server
    selection: Selection
    """With ``stride_seconds``."""
    top_k: int | None
    timeout: float | None
    """Seconds for each request."""
    in_flight: int
    on_progress: Progress | None
    limits: Limits = DEFAULT_LIMITS

    def timeline(self, source: video.Video) -> Timeline:
        """The reply that one request without limits would give.

        Raises:
            ServerError: there is no answer, and why.
        """
        path = Path(source) if isinstance(source, str | Path) else None
        size = video.size_of(path) if path else 0
        data = None if path else video.read(source)
        fits = (size or len(data or b"")) <= self.limits.body_bytes
        try:
            file = VideoFile(path or data or b"")
        except NotCuttable as error:
            if not fits:
                raise self._too_large(str(error)) from error
            file = None
        # Most videos are short: those need no question to the server first.
        if fits and (file is None or self._most_windows(file.seconds) <= self._windows):
            try:
                return self._one_request(data or video.read(source))
            except ServerError as error:
                if error.code not in _TOO_MUCH:
                    raise
        recipe = self._recipe(file, data or (path and fits and video.read(path)) or b"")
        if file is not None:
            chosen = spread(self.selection, recipe.window_seconds, file.seconds)
            try:
                return self._together(self._cut(file, chosen), chosen, recipe)
            except NotCuttable as error:
                if not fits:
                    raise self._too_large(str(error)) from error
        whole = data or video.read(source)
        chosen = spread(self.selection, recipe.window_seconds, _seconds(whole))
        return self._together(self._whole(whole, chosen), chosen, recipe)

    def _too_large(self, reason: str) -> Refused:
        message = f"The file has more than the {self.limits.body_bytes:,} bytes of a request, and {reason}."
        hint = "Put it into another container first: ffmpeg -i input -c copy output.mkv"
        return Refused("TOO_LARGE", 413, message, hint)

    @property
    def _windows(self) -> int:
        """Of one request, at most."""
        return self.limits.windows // self.selection.crops

    @property
    def _stride(self) -> float:
        return self.selection.stride_seconds or STRIDE_SECONDS

    def _most_windows(self, clip_seconds: float) -> float:
        end = min(clip_seconds, self.selection.end_seconds or clip_seconds)
        return (end - self.selection.start_seconds) / self._stride + 1

    def _one_request(self, data: bytes) -> Timeline:
        options = {
            "start_seconds": self.selection.start_seconds or None,
            "end_seconds": self.selection.end_seconds,
            "stride_seconds": self._stride,
            "crops": self.selection.crops if self.selection.crops > 1 else None,
            "top_k": self.top_k,
        }
        return Timeline.from_dict(self.server.post(data, options, self.timeout))

    def _recipe(self, file: VideoFile | None, whole: bytes) -> _Recipe:
        try:
            described = self.server.describe()
            spec = described["spec"]
            return _Recipe(spec["num_frames"] * spec["sampling_rate"] / spec["fps"], int(described["labels"]))
        except ServerError:
            # From another host the management address cannot be asked; a window's length shows in a reply.
            start = self.selection.start_seconds
            data = whole or (file.part(start, start + 10.0).data if file else b"")
            clip = self.server.post(data, {}, self.timeout)["clip"]
            return _Recipe(clip["end_seconds"] - clip["start_seconds"], None)

    def _cut(self, file: VideoFile, chosen: Windows) -> Iterator[Piece]:
        first = 0
        while first < chosen.count:
            count = min(self._windows, chosen.count - first)
            while (part := self._part(file, chosen, first, count)) is None:
                if count == 1:
                    hint = "Re-encode the video at a lower bit rate."
                    raise Refused("TOO_LARGE", 413, "One window of it is larger than a request may be.", hint)
                count = -(-count // 2)
            yield Piece(first, count, part.data, part.offset_seconds, first + count == chosen.count)
            first += count

    def _part(self, file: VideoFile, chosen: Windows, first: int, count: int) -> Part | None:
        """The part for a run of windows; None where it is too large for a request."""
        start, end = span(chosen, first, count)
        most = self.limits.body_bytes - _FORM_BYTES
        if file.size(start, end) > most:
            return None
        if first + count == chosen.count:  # what lies behind the last window may yet be part of it
            end = max(end, self.selection.end_seconds or file.seconds)
        part = file.part(start, end + self._stride)
        return part if len(part.data) <= most else None

    def _whole(self, data: bytes, chosen: Windows) -> Iterator[Piece]:
        for first in range(0, chosen.count, self._windows):
            count = min(self._windows, chosen.count - first)
            yield Piece(first, count, data, 0.0, first + count == chosen.count)

    def _together(self, pieces: Iterator[Piece], chosen: Windows, recipe: _Recipe) -> Timeline:
        replies: list[tuple[Piece, dict[str, Any] | Refused]] = []
        waiting: deque[tuple[Piece, Future[list[tuple[Piece, dict[str, Any] | Refused]]]]] = deque()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="timeline")

        def finish() -> None:
            piece, future = waiting.popleft()
            replies.extend(future.result())
            if self.on_progress:
                self.on_progress(piece.first + piece.count, chosen.count)

        try:
            if self.on_progress:
                self.on_progress(0, chosen.count)
            for piece in pieces:
                waiting.append((piece, pool.submit(self._ask, piece, chosen, recipe)))
                if len(waiting) >= self.in_flight:
                    finish()
            while waiting:
                finish()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return Timeline.from_dict(merged(replies, chosen, recipe.labels, self.top_k or DEFAULT_TOP_K))

    def _ask(
        self, piece: Piece, chosen: Windows, recipe: _Recipe
    ) -> list[tuple[Piece, dict[str, Any] | Refused]]:
        """The reply to a piece, or those to its halves where it takes the server too long."""
        try:
            reply: dict[str, Any] | Refused = self._send(piece, chosen, recipe)
        except ServerError as error:
            if error.code in _TOO_MUCH and piece.count > 1:
                half = piece.count // 2
                earlier = replace(piece, count=half, last=False)
                later = replace(piece, first=piece.first + half, count=piece.count - half)
                return [*self._ask(earlier, chosen, recipe), *self._ask(later, chosen, recipe)]
            if not isinstance(error, Refused) or error.code not in _GAPS:
                raise
            reply = error
        # Its bytes are done with: a long video's parts must not all stay in memory.
        return [(replace(piece, data=b""), reply)]

    def _send(self, piece: Piece, chosen: Windows, recipe: _Recipe) -> dict[str, Any]:
        start, end = span(chosen, piece.first, piece.count)
        if not piece.last:
            end += min(self._stride, 1.0) / 2  # rounding must not cost the last window, nor make one more
        elif self.selection.end_seconds is not None:
            end = self.selection.end_seconds
        options = {
            "start_seconds": max(0.0, start - piece.offset_seconds),
            "end_seconds": None
            if piece.last and self.selection.end_seconds is None
            else end - piece.offset_seconds,
            "stride_seconds": self._stride,
            "crops": self.selection.crops if self.selection.crops > 1 else None,
            "top_k": recipe.labels or self.top_k,
        }
        return self.server.post(piece.data, options, self.timeout)


def _seconds(data: bytes) -> float:
    """Length of a video, as a server measures it."""
    try:
        with Source(data) as source:
            return source.seconds()
    except ClipError as error:
        raise Refused(error.code, error.status, error.message, error.hint) from error
