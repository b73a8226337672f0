"""The timeline of a video of any length: in one request where a server takes it so, else part by part.

The windows are those of one request for all of it (`sampling.spread` says which). Each part is cut from the
file for a run of them, and the replies are put together: times become those of the whole, and segments are made
by the function that the server uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.request import DEFAULT_TOP_K
from actionrec.sampling import Selection, Windows, spread

from .. import video
from ..description import Description
from ..errors import Refused, ServerError
from ..options import EmbeddingForm
from ..results import Timeline
from .merge import Piece, PieceReply, merged, span
from .remux import NotCuttable, Part
from .sent import IN_THIS_PROCESS, Cuttable, Cutter, SentVideo

STRIDE_SECONDS = 1.0
"""From one window to the next, where nothing else is asked for."""
_FORM_BYTES = 4096  # of a request, for what is not the video
# A part without one good window is refused as a request; in the whole video it is a gap.
_GAPS = frozenset({"NO_FRAMES", "CORRUPT_VIDEO", "START_BEYOND_END"})
# The same with fewer windows may be answered: pictures are large, or the model is slow.
_TOO_MUCH = frozenset({"TOO_MANY_WINDOWS", "DECODE_TIMEOUT", "OUT_OF_TIME"})

Progress = Callable[[int, int], None]
"""Called with the windows that are done and those that there are."""
SoFar = Callable[[], dict[str, Any]]
"""Makes the reply of the windows that are done; it raises `Refused` where none of them could be decoded."""


class Sender(Protocol):
    """What a timeline needs of a client."""

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a file with options, and return the reply."""

    def describe(self) -> dict[str, Any]:
        """What is served; see `Description`."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What has to be known of the model to cut a video for it."""

    window_seconds: float
    labels: int | None
    """None: not known, so segments and means are made of the best labels only."""


@dataclass(frozen=True, slots=True)
class LongVideo:
    """One timeline that is wanted."""

    sender: Sender
    selection: Selection
    """With ``stride_seconds``."""
    top_k: int | None
    """Labels of each window; None: the server's default."""
    timeout: float | None
    """Seconds for each request with its retries; None: the sender's default."""
    in_flight: int
    """Parts at a time."""
    on_progress: Progress | None
    embedding: EmbeddingForm | None = None
    """How a reply writes the embedding of each window; None: it has none."""
    limits: Limits = DEFAULT_LIMITS
    """Of one request."""
    cutter: Cutter = IN_THIS_PROCESS
    """What opens the video."""
    on_part: Callable[[SoFar], None] | None = None
    """Called when a part is done, in the order of the video."""

    def timeline(self, source: video.Video) -> Timeline:
        """The reply that one request without limits would give.

        Raises:
            ServerError: there is no answer, and why.
        """
        sent = SentVideo(source, self.limits.body_bytes, self.cutter)
        if sent.fits and self._seems_short(sent):
            try:
                return self._in_one_request(sent.read())
            except ServerError as error:
                if error.code not in _TOO_MUCH:
                    raise
        recipe = self._recipe(sent)
        chosen = spread(self.selection, recipe.window_seconds, sent.seconds())
        if sent.index is not None:
            try:
                return self._together(self._cut(sent.index, chosen), chosen, recipe)
            except NotCuttable as error:
                sent.check_fits(error)
        return self._together(self._whole(sent.read(), chosen), chosen, recipe)

    def _seems_short(self, sent: SentVideo) -> bool:
        """Whether one request may do, as for most videos, which then need no question to the server first."""
        if sent.index is None:
            return True  # the server says where it is too long
        length = sent.index.seconds
        end = min(length, self.selection.end_seconds or length)
        return (end - self.selection.start_seconds) / self._stride + 1 <= self._windows

    @property
    def _windows(self) -> int:
        """Of one request, at most."""
        return self.limits.windows // self.selection.crops

    @property
    def _stride(self) -> float:
        return self.selection.stride_seconds or STRIDE_SECONDS

    def _in_one_request(self, data: bytes) -> Timeline:
        options = self._options(self.selection.start_seconds or None, self.selection.end_seconds, self.top_k)
        return Timeline.from_dict(self.sender.post(data, options, self.timeout))

    def _options(
        self, start_seconds: float | None, end_seconds: float | None, top_k: int | None
    ) -> dict[str, Any]:
        """Of a request; None is left out."""
        return {
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "stride_seconds": self._stride,
            "crops": self.selection.crops if self.selection.crops > 1 else None,
            "top_k": top_k,
            "embedding": self.embedding,
        }

    def _recipe(self, sent: SentVideo) -> _Recipe:
        try:
            described = Description.from_dict(self.sender.describe())
            return _Recipe(described.spec.window_seconds, described.labels)
        except ServerError:
            # From another host the management address cannot be asked; a window's length shows in a reply.
            clip = self.sender.post(sent.sample(self.selection.start_seconds), {}, self.timeout)["clip"]
            return _Recipe(clip["end_seconds"] - clip["start_seconds"], None)

    def _cut(self, file: Cuttable, chosen: Windows) -> Iterator[Piece]:
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

    def _part(self, file: Cuttable, chosen: Windows, first: int, count: int) -> Part | None:
        """The part for a run of windows; None where it is too large for a request."""
        start, end = span(chosen, first, count)
        most = self.limits.body_bytes - _FORM_BYTES
        if file.size(start, end) > most:
            return None
        if first + count == chosen.count:  # what follows the last window may yet be part of it
            end = max(end, self.selection.end_seconds or file.seconds)
        part = file.part(start, end + self._stride)
        return part if len(part.data) <= most else None

    def _whole(self, data: bytes, chosen: Windows) -> Iterator[Piece]:
        for first in range(0, chosen.count, self._windows):
            count = min(self._windows, chosen.count - first)
            yield Piece(first, count, data, 0.0, first + count == chosen.count)

    def _together(self, pieces: Iterator[Piece], chosen: Windows, recipe: _Recipe) -> Timeline:
        replies: list[PieceReply] = []
        waiting: deque[tuple[Piece, Future[list[PieceReply]]]] = deque()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="timeline")

        def finish() -> None:
            piece, future = waiting.popleft()
            replies.extend(future.result())
            if self.on_part:
                self.on_part(together)
            if self.on_progress:
                self.on_progress(piece.first + piece.count, chosen.count)

        def together() -> dict[str, Any]:
            return merged(list(replies), chosen, recipe.labels, self.top_k or DEFAULT_TOP_K)

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
        return Timeline.from_dict(together())

    def _ask(self, piece: Piece, chosen: Windows, recipe: _Recipe) -> list[PieceReply]:
        """The reply to a piece, or those to its halves where all of it is too much for the server."""
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
        # Without the data: the parts of a long video must not all stay in memory.
        return [(replace(piece, data=b""), reply)]

    def _send(self, piece: Piece, chosen: Windows, recipe: _Recipe) -> dict[str, Any]:
        start, end = span(chosen, piece.first, piece.count)
        # Rounding must not cost the last window, nor make one more; the last piece ends where the whole does.
        stop = self.selection.end_seconds if piece.last else end + min(self._stride, 1.0) / 2
        options = self._options(
            max(0.0, start - piece.offset_seconds),
            None if stop is None else stop - piece.offset_seconds,
            recipe.labels or self.top_k,
        )
        return self.sender.post(piece.data, options, self.timeout)
