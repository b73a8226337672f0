"""Which packets of a stream a request's windows take, and which frames their timestamps promise.

    packets     K . . . . K . . . . K . . . . K . . . . K . . . .       K: key frame
    windows             [--------)              [--)
    spans                 [ ---------- ]      [ ----- ]                 from a key frame on

One window's packets are few: they are sought and kept. For several the stream is read twice, first for its
timestamps alone, then packet by packet, so that memory does not grow with the file's length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from .container import MAX_REORDER, Source

Ticks = npt.NDArray[np.int64]
Numbered = Iterator[tuple[int, "Packet[VideoStream] | None"]]
"""Packets with their numbers in the order of the file; None for one where they go on at another key frame."""

_NONE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Span:
    """The packets that one window takes, by their numbers in the order of the file."""

    first: int
    """The key frame's."""
    last: int
    """The last one inside the window; the decoder gives its frame a few packets later."""


class Track(Protocol):
    """The packets of a request's windows."""

    stamps: Ticks
    """Timestamps of the frames that the packets promise, sorted; empty where they cannot be relied on."""

    def seconds(self) -> float:
        """Length of the clip by its packets' timestamps; what its header says plays no part."""

    def span(self, first: int, stop: int) -> Span:
        """The packets of the window [first, stop), in ticks."""

    def read(self, spans: Sequence[Span]) -> Numbered:
        """The packets of some windows, in the order of the file, each once."""


class NearTrack:
    """The packets of one window.

    Args:
        source: an open file.
        first, stop: the window, in ticks.
    """

    def __init__(self, source: Source, first: int, stop: int) -> None:
        self._source = source
        self._packets = source.packets(first, stop)
        trusted = not source.counted and all(packet.pts is not None for packet in self._packets)
        stamps = {cast(int, p.pts) for p in self._packets if trusted and not p.is_discard}
        self.stamps: Ticks = np.array(sorted(stamps), dtype=np.int64)

    def seconds(self) -> float:
        return self._source.seconds()

    def span(self, first: int, stop: int) -> Span:  # noqa: ARG002  # there is but one window
        return Span(0, len(self._packets) - 1)

    def read(self, spans: Sequence[Span]) -> Numbered:  # noqa: ARG002  # the same
        yield from enumerate(self._packets)


class FarTrack:
    """The packets of several windows, read from the file anew each time.

    Args:
        source: an open file; nothing else may read from it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        stamps, ends, flags = [], [source.origin], []
        for packet in self._demux():
            stamps.append((_tick(packet.pts), _tick(packet.dts)))
            flags.append((packet.is_keyframe, packet.is_discard))
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                ends.append(stamp + (packet.duration or 0))
        self._pts, self._dts = np.array(stamps, dtype=np.int64).reshape(-1, 2).T
        self._key, discard = np.array(flags, dtype=np.bool_).reshape(-1, 2).T
        self._trusted = not source.counted and bool((self._pts != _NONE).all())
        self.stamps: Ticks = np.unique(self._pts[~discard]) if self._trusted else np.empty(0, dtype=np.int64)
        ticks = len(self._pts) * source.ticks_per_frame if source.counted else max(ends) - source.origin
        self._seconds = float(ticks * source.time_base)

    def seconds(self) -> float:
        return self._seconds

    def span(self, first: int, stop: int) -> Span:
        if self._source.counted:
            return Span(0, min(len(self._pts), stop // self._source.ticks_per_frame + MAX_REORDER) - 1)
        keys = np.flatnonzero(self._key & (self._pts <= first) & (self._pts != _NONE))
        begin = int(keys[-1]) if keys.size and self._trusted else 0
        # As `Source.packets` does: up to the last one before `stop` that more than MAX_REORDER others follow.
        inside = np.flatnonzero(np.where(self._pts == _NONE, self._dts, self._pts)[begin:] < stop)
        ends = np.flatnonzero(np.diff(inside) > MAX_REORDER + 1)
        return Span(begin, begin + int(inside[ends[0] if ends.size else -1]) if inside.size else begin)

    def read(self, spans: Sequence[Span]) -> Numbered:
        self._source.rewind()
        reached = -1
        waiting = iter(sorted(spans, key=lambda span: span.first))
        span = next(waiting, None)
        for number, packet in enumerate(self._demux()):
            while span is not None and number > span.last:
                span = next(waiting, None)
            if span is None:
                return
            if number < span.first:
                continue
            if 0 <= reached < number - 1:
                yield number, None
            reached = number
            yield number, packet

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        """All packets, up to where the file can be read."""
        count = 0
        try:
            for packet in self._source.demux():
                count += 1
                yield packet
        except av.FFmpegError:
            if not count:
                raise


def _tick(stamp: int | None) -> int:
    return _NONE if stamp is None else stamp
