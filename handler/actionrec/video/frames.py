"""Packets -> frames, with the times at which they are shown.

Timestamps are taken as they are until the decoder contradicts one, or where there are none. Then all frames of
the request's windows are decoded once to see what comes out, and `order` says when each is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .container import Source
from .order import Order, Ticks, delay, shown
from .packets import Span, Track

# Decoders that look at `skip_frame` anew for each packet; libdav1d reads it once, when it is opened.
_SKIPS_PER_PACKET = frozenset({"h264", "hevc"})

Shown = tuple[int, int, VideoFrame]
"""(number of the packet that brought a frame out, when it is shown in ticks, the frame)."""


class Reader:
    """Decodes spans of packets.

    Args:
        source: an open file.
        track: its packets.
    """

    def __init__(self, source: Source, track: Track) -> None:
        self._source = source
        self._track = track
        self._times: Ticks | None = None
        self.damage: list[int] = []
        """Numbers of the packets at which something was damaged, in the last reading."""
        self.contradicted = False
        """Whether frames have come out in another order than that of their timestamps."""

    def frames(self, spans: Sequence[Span], wanted: frozenset[int] | None) -> Iterator[Shown]:
        """Every frame; damage is passed over. Ends where the decoder contradicts a timestamp.

        Args:
            spans: what to decode; those given to `count`, once it was called.
            wanted: timestamps to decode; others are skipped where nothing refers to them. None: all.
        """
        order = Order()
        for index, (number, _, frame) in enumerate(self._decoded(spans, wanted)):
            if self._times is not None:
                if index == len(self._times):
                    return
                yield number, int(self._times[index]), frame
            elif frame.pts is None or (order.contradicts(frame.pts) and not self.damage):
                # After damage a decoder may give a frame that it has held back for too long.
                self.contradicted = True
                return
            else:
                yield number, frame.pts, frame

    def count(self, spans: Sequence[Span]) -> Ticks:
        """When each frame is shown that comes out, int64 [frames]; `frames` gives these times from now on."""
        stamps: list[int | None] = []
        arrivals: list[int | None] = []
        for _, arrival, frame in self._decoded(spans, None):
            stamps.append(frame.pts)
            arrivals.append(arrival)
        source = self._source
        if self._track.stamps.size and not self.contradicted and None not in stamps:
            self._times = np.array(stamps, dtype=np.int64)
            return self._times
        origin = source.origin
        start = next(iter(arrivals), None) if source.counted else source.arrival(delay(arrivals), self._arrival)
        if start is None:
            # No packet says: a frame comes after the other.
            start, arrivals = 0, [None] * len(arrivals)
            if not source.counted:
                origin = next(iter(stamps), None) or origin
        self._times = shown(arrivals, start, source.ticks_per_frame, origin)
        return self._times

    def _arrival(self, packet: Packet[VideoStream]) -> int | None:
        """When a packet is decoded, in ticks."""
        if self._source.counted:
            # Those of a bare stream are made up.
            return packet.dts if self._source.chunked else None
        # Timestamps that rise in the order of decoding are of decoding; what FFmpeg makes of these after a seek
        # is something else than what it makes of them from the start.
        return packet.pts if self._track.stamps.size and not self._track.reordered else packet.dts

    def _decoded(
        self, spans: Sequence[Span], wanted: frozenset[int] | None
    ) -> Iterator[tuple[int, int | None, VideoFrame]]:
        """(number of the packet that brought it out, that one's decoding time, frame) of every frame."""
        self.damage = []
        number = 0
        context: VideoCodecContext | None = None
        for place, packet in chain(self._track.read(spans), [(0, None)]):
            if context is None:
                # Only now: reading may open the file anew.
                context = self._prepared()
                if context.name not in _SKIPS_PER_PACKET or not self._track.reordered:
                    wanted = None
            arrival = None
            if packet is not None:
                number = place
                arrival = self._arrival(packet)
                if wanted is not None:
                    context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                self._source.check_refusal()
                self.damage.append(number)
                frames = []
            for frame in frames:
                self._source.limits.check_size(frame.width, frame.height)
                if frame.is_corrupt:
                    self.damage.append(number)
                yield number, arrival, frame
            if packet is None:
                context.flush_buffers()

    def _prepared(self) -> VideoCodecContext:
        """The decoder, set up to decode all that it is given."""
        context = self._source.stream.codec_context
        if not context.is_open and (self.contradicted or not self._track.stamps.size):
            # H.264 may not say by how many frames it reorders, and the decoder then finds out on the way. If it
            # is strict, it waits from the start for as many as there could be, so that no frame comes too late.
            context.options = {**context.options, "strict": "1"}
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        return context
