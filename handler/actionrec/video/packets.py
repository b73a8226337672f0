"""The packets that a request's windows need, and the frames that their timestamps promise.

    packets     K . . . . K . . . . K . . . . K . . . . K . . . .       K: key frame
    windows             [--------)              [--)
    spans                 [ ---------- ]      [ ----- ]                 from a key frame on

The packets of one window are few: they are found by a seek and kept. For several windows the stream is read
twice, first for its timestamps alone, then packet by packet, so that memory does not grow with the file's
length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Protocol, cast

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from .container import MAX_REORDER, Source, stamp_of
from .order import Ticks

Numbered = Iterator[tuple[int, "Packet[VideoStream] | None"]]
"""Packets with their numbers in file order; None in the place of a packet marks a jump to another key frame."""

# How far before a window the search for its key frame starts, in seconds; doubled until one is found.
_SEEK_MARGIN_SECONDS = 1.0

_NONE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Span:
    """The packets that one window needs, by their numbers in file order."""

    first: int
    """The key frame."""
    last: int
    """The last packet inside the window; the decoder gives its frame a few packets later."""


class Track(Protocol):
    """The packets of a request's windows."""

    stamps: Ticks
    """Timestamps of the frames that the packets promise, in ticks, sorted; empty where they are unreliable."""
    reordered: bool
    """Whether timestamps fall somewhere: then they are presentation times, and not decoding times."""

    def seconds(self) -> float:
        """Length of the video in seconds, by its packets' timestamps; the header's duration is ignored."""

    def span(self, first: int, stop: int) -> Span:
        """The packets of the window [first, stop), in ticks."""

    def widen(self) -> None:
        """Allow from now on for timestamps that are wrong by as much as frames are reordered.

        Spans begin one key frame earlier, since frames that are coded after a key frame but shown before it are
        lost where decoding begins, and end a few packets later.
        """

    def read(self, spans: Sequence[Span]) -> Numbered:
        """The packets of some windows, in file order, each once."""


class NearTrack:
    """The packets of one window.

    Args:
        source: an open file.
        first, stop: the window, in ticks.
    """

    def __init__(self, source: Source, first: int, stop: int) -> None:
        self._source = source
        self._first, self._stop = first, stop
        self._wide = False
        self._packets = self._sought()
        trusted = not source.counted and all(packet.pts is not None for packet in self._packets)
        given = [cast(int, p.pts) for p in self._packets] if trusted else []
        self.reordered = any(after < before for before, after in pairwise(given))
        shown = {cast(int, p.pts) for p in self._packets if trusted and not p.is_discard}
        self.stamps: Ticks = np.array(sorted(shown), dtype=np.int64)

    def seconds(self) -> float:
        """See `Track`."""
        return self._source.seconds()

    def span(self, first: int, stop: int) -> Span:  # noqa: ARG002  # there is but one window
        """See `Track`."""
        return Span(0, len(self._packets) - 1)

    def widen(self) -> None:
        """See `Track`."""
        self._wide = True
        self._source.rewind()
        self._packets = self._sought()

    def read(self, spans: Sequence[Span]) -> Numbered:  # noqa: ARG002  # the same
        """See `Track`."""
        yield from enumerate(self._packets)

    def _sought(self) -> list[Packet[VideoStream]]:
        """The packets to decode for the window, in decoding order, from the last key frame before it. The file
        was just opened.
        """
        source, margin = self._source, _SEEK_MARGIN_SECONDS
        if source.counted:
            return list(islice(source.demux(), self._stop // source.ticks_per_frame + MAX_REORDER))
        reached: tuple[int | None, int | None] | None = None
        # A file that was just opened is at its start already, and some formats cannot seek at all.
        while (target := self._first - int(margin / source.time_base)) > source.origin and source.seek(target):
            margin *= 2
            following = self._until_stop()
            head = next(following, None)
            place = (None, None) if head is None else (head.dts, head.pos)
            if place == reached:
                continue  # the same place as after the last seek
            reached = place
            packets = _trustworthy(source, [*([] if head is None else [head]), *following])
            keys = [p.pts for p in packets if p.is_keyframe and p.pts is not None and p.pts <= self._first]
            if len(keys) > self._wide:
                return packets
        if reached is not None:
            source.rewind()
        return list(self._until_stop())

    def _until_stop(self) -> Iterator[Packet[VideoStream]]:
        """The packets up to the last one before the window's end, or MAX_REORDER more if `_wide`.

        Decoding times cannot tell the end: Matroska's are guessed.
        """
        beyond: list[Packet[VideoStream]] = []
        for packet in self._source.demux():
            stamp = stamp_of(packet)
            if stamp is not None and stamp >= self._stop:
                beyond.append(packet)
                if len(beyond) > MAX_REORDER:
                    break
            else:
                yield from beyond
                beyond.clear()
                yield packet
        if self._wide:
            yield from beyond


def _trustworthy(source: Source, packets: list[Packet[VideoStream]]) -> list[Packet[VideoStream]]:
    """The packets after a seek, without those whose timestamps may belong to other packets."""
    if source.container.format.name != "mpeg":
        return packets
    # A seek in MPEG-PS may end inside a frame. The rest of that frame then takes the next one's timestamp, and
    # all are wrong until a packet has a timestamp of its own: that is one with a position.
    own = [index for index, packet in enumerate(packets) if packet.pos is not None]
    return packets[own[1] :] if len(own) > 1 else []


class FarTrack:
    """The packets of several windows, read from the file each time.

    Args:
        source: an open file; nothing else may read from it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        stamps: list[tuple[int, int]] = []
        flags: list[tuple[bool, bool]] = []
        self._seconds = source.length(self._noted(stamps, flags))
        self._pts, self._dts = np.array(stamps, dtype=np.int64).reshape(-1, 2).T
        self._key, discard = np.array(flags, dtype=np.bool_).reshape(-1, 2).T
        self._trusted = not source.counted and bool((self._pts != _NONE).all())
        self.stamps: Ticks = np.unique(self._pts[~discard]) if self._trusted else np.empty(0, dtype=np.int64)
        self.reordered = self._trusted and bool((self._pts[1:] < self._pts[:-1]).any())
        self._wide = False

    def _noted(
        self, stamps: list[tuple[int, int]], flags: list[tuple[bool, bool]]
    ) -> Iterator[Packet[VideoStream]]:
        """All packets; their timestamps and flags are appended to the lists."""
        for packet in self._demux():
            stamps.append((_tick(packet.pts), _tick(packet.dts)))
            flags.append((packet.is_keyframe, packet.is_discard))
            yield packet

    def seconds(self) -> float:
        """See `Track`."""
        return self._seconds

    def span(self, first: int, stop: int) -> Span:
        """See `Track`."""
        if self._source.counted:
            return Span(0, min(len(self._pts), stop // self._source.ticks_per_frame + MAX_REORDER) - 1)
        keys = np.flatnonzero(self._key & (self._pts <= first) & (self._pts != _NONE))
        begin = int(keys[-1 - self._wide]) if keys.size > self._wide and self._trusted else 0
        # As `NearTrack._until_stop`: up to the last packet before `stop` that more than MAX_REORDER others
        # follow.
        inside = np.flatnonzero(np.where(self._pts == _NONE, self._dts, self._pts)[begin:] < stop)
        ends = np.flatnonzero(np.diff(inside) > MAX_REORDER + 1)
        last = begin + int(inside[ends[0] if ends.size else -1]) if inside.size else begin
        return Span(begin, min(last + MAX_REORDER, len(self._pts) - 1) if self._wide else last)

    def widen(self) -> None:
        """See `Track`."""
        self._wide = True

    def read(self, spans: Sequence[Span]) -> Numbered:
        """See `Track`."""
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
        """All packets, as far as the file can be read."""
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
