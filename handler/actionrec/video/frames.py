"""Packets -> frames, with the times at which they are shown.

Timestamps are used as they are, unless there are none or the decoder contradicts one. Then all frames of the
request's windows are decoded once more to see what comes out, and `order` says when each is shown.
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

# Decoders that read `skip_frame` anew for each packet; libdav1d reads it once, when it is opened.
_SKIPS_PER_PACKET = frozenset({"h264", "hevc"})

Shown = tuple[int, int, VideoFrame]
"""(number of the packet that gave a frame, the time at which the frame is shown in ticks, the frame)."""


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
        """Numbers of the damaged packets in the last reading."""
        self.contradicted = False
        """Whether the decoder gave frames in another order than that of their timestamps."""

    def frames(self, spans: Sequence[Span], wanted: frozenset[int] | None) -> Iterator[Shown]:
        """Every frame; damaged packets are skipped. Ends where the decoder contradicts a timestamp.

        Args:
            spans: packets to decode; after a call of `count`, the same as in that call.
            wanted: timestamps of the frames to decode; any other is skipped where no frame refers to it. None:
                all.
        """
        order = Order()
        for index, (number, _, frame) in enumerate(self._decoded(spans, wanted)):
            if self._times is not None:
                if index == len(self._times):
                    return
                yield number, int(self._times[index]), frame
            elif frame.pts is None or (order.contradicts(frame.pts) and not self.damage):
                # After damage a decoder may release a frame that it has held back for too long.
                self.contradicted = True
                return
            else:
                yield number, frame.pts, frame

    def count(self, spans: Sequence[Span]) -> Ticks:
        """Decode all frames and return when each is shown: int64 [frames], ticks. `frames` uses these times
        afterwards.
        """
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
            # No packet has a time: frames follow one another at the nominal rate.
            start, arrivals = 0, [None] * len(arrivals)
            if not source.counted:
                origin = next(iter(stamps), None) or origin
        self._times = shown(arrivals, start, source.ticks_per_frame, origin)
        return self._times

    def _arrival(self, packet: Packet[VideoStream]) -> int | None:
        """When a packet is decoded, in ticks; None where that is not known."""
        if self._source.counted:
            # FFmpeg makes up the times of a bare stream.
            return packet.dts if self._source.chunked else None
        # Presentation times that never fall are in truth decoding times. FFmpeg's own decoding times are no
        # help: after a seek it derives other ones than from the start.
        return packet.pts if self._track.stamps.size and not self._track.reordered else packet.dts

    def _decoded(
        self, spans: Sequence[Span], wanted: frozenset[int] | None
    ) -> Iterator[tuple[int, int | None, VideoFrame]]:
        """(number of the packet that gave it, that packet's decoding time, frame) of every frame."""
        self.damage = []
        number = 0
        context: VideoCodecContext | None = None
        for place, packet in chain(self._track.read(spans), [(0, None)]):
            if context is None:
                # Not before: reading may reopen the file.
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
        """The decoder, set up to decode every packet."""
        context = self._source.stream.codec_context
        if not context.is_open and (self.contradicted or not self._track.stamps.size):
            # H.264 need not say by how many frames it reorders; the decoder then finds out on the way. A strict
            # decoder waits from the start for as many frames as there could be, so that none comes too late.
            context.options = {**context.options, "strict": "1"}
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        return context
