"""Bytes -> an open container and its video stream, or an error that says what the bytes are.

FFmpeg opens far more than video files, for example playlists that name other files and addresses. So only the
formats listed here are probed, and no protocol is allowed: a file can refer to nothing outside itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import ClipError
from ..limits import DEFAULT_LIMITS, Limits
from ..problems import problem, unreadable
from .sample_tables import too_many_samples, too_many_tracks
from .transport_stream import is_transport_stream, programs

MAX_REORDER = 16
"""FFmpeg reorders by at most 16 frames (H.264 and HEVC): this many packets after a window's end are enough."""

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,ivf,h264,hevc,m4v,mpegvideo"
"""Formats that are let in, by the names of FFmpeg's demuxers."""

Clock = Callable[["Packet[VideoStream]"], "int | None"]
"""Returns when a packet is decoded, in ticks; None where the packet does not say."""

_BARE_STREAMS = frozenset({"h264", "hevc", "mpegvideo", "m4v"})

CODECS = frozenset(
    {"h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video"}
    | {"mpeg1video", "mjpeg", "h263", "flv", "theora", "wmv1", "wmv2", "msmpeg4v2", "msmpeg4", "prores"}
    | {"dnxhd", "gif"}
)
"""Codecs that are let in, by FFmpeg's decoder names: those that are fuzzed. There is no sample file to start
fuzzing wmv3, vc1 and msmpeg4v1 from."""


def open_container(
    file: BinaryIO, formats: str = CONTAINERS, hardware: HWAccel | None = None
) -> InputContainer:
    """Open a file so that no content can make FFmpeg reach another file or address. Decodes nothing.

    Args:
        file: a video.
        formats: the allowed ones, out of `CONTAINERS`.
        hardware: what decodes instead of the CPU.

    Raises:
        av.FFmpegError, ValueError, OSError, MemoryError: it is no allowed container, or damaged.
    """
    options = {
        "format_whitelist": formats,
        "protocol_whitelist": "none",
        # Opening probes the stream: it decodes the first frames and discards them. The headers say all that
        # is needed here, so the probe's decoder is told to skip every frame.
        "skip_frame": "all",
        # Even so the probe opens decoders: only the allowed ones.
        "codec_whitelist": ",".join(sorted(CODECS)),
    }
    return av.open(file, mode="r", metadata_errors="replace", options=options, hwaccel=hardware)


def first_video(container: InputContainer) -> VideoStream | None:
    """The video stream to decode: the first that is not a cover picture; None where there is none."""
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def stamp_of(packet: Packet[VideoStream]) -> int | None:
    """A packet's presentation time in ticks; its decoding time where it has no other."""
    return packet.pts if packet.pts is not None else packet.dts


class Source:
    """The video stream of a file in memory. Close it, or use it in a ``with`` statement.

    Args:
        data: a whole video file.
        limits: the most streams, pixels, packets and seconds that are accepted.
        hardware: called at each opening for what decodes instead of the CPU. None: nothing does.

    Raises:
        ClipError: from the constructor: the bytes are no video, or one that is not allowed.
    """

    def __init__(
        self,
        data: bytes,
        limits: Limits = DEFAULT_LIMITS,
        hardware: Callable[[], HWAccel | None] | None = None,
    ) -> None:
        self._data = data
        self._hardware = hardware
        self.limits = limits
        self._formats = CONTAINERS
        if is_transport_stream(data):
            too_many = programs(data, limits.streams) > limits.streams
        else:
            # `programs` checks transport streams only, so FFmpeg must not take anything else for one.
            self._formats = ",".join(name for name in CONTAINERS.split(",") if name != "mpegts")
            too_many = too_many_tracks(data, limits.streams)
        if too_many:
            raise problem("too_many_streams", most=limits.streams)
        if too_many_samples(data):
            raise problem("too_many_samples")
        self._open()
        self.origin = self._find_origin()
        """The stream's first timestamp, in ticks."""

    def _open(self) -> None:
        hardware = self._hardware() if self._hardware else None
        try:
            self.container = open_container(io.BytesIO(self._data), self._formats, hardware)
        except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
            raise unreadable(self._data, error) from error
        try:
            self.stream = _video_stream(self.container, self.limits)
            name = self.container.format.name
            self.chunked = name == "avi" and bool(self.stream.codec_context.has_b_frames)
            """Whether decoding times are chunk numbers, as in AVI, and FFmpeg has to guess when reordered
            frames are shown; its guesses put them in a wrong order."""
            # Read once: a decoder may discover later that it reorders.
            self.counted = self.chunked or name in _BARE_STREAMS
            """Whether frames are timed by counting them: the format has a rate but no presentation times."""
            self._sized = bool(self.stream.codec_context.width)
        except ClipError:
            self.container.close()
            raise

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def codec(self) -> str:
        """How the video is coded, by FFmpeg's name, whichever decoder it has: ``av1`` of libdav1d."""
        return self.stream.codec_context.codec.canonical_name

    @property
    def ticks_per_frame(self) -> int:
        """The nominal frame time, in ticks; that of 25 frames a second where the stream states no rate."""
        # A bare stream's average rate is the demuxer's default; the guessed rate comes from the codec.
        rate = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        return max(1, round(1 / (rate * self.time_base)))

    def _find_origin(self) -> int:
        if self.counted:
            return 0
        # An AVI starts at 0, though FFmpeg may guess a later time for its first frame.
        if self.stream.start_time is not None and self.container.format.name != "avi":
            return self.stream.start_time
        # In Matroska with B-frames, the first frame shown may be any of the first packets.
        first = islice(self._read(), MAX_REORDER + 1)
        stamps = [packet.pts for packet in first if packet.pts is not None]
        self.rewind()
        return min(stamps, default=0)

    def arrival(self, number: int, clock: Clock) -> int | None:
        """The decoding time of a packet, given by its number from the file's start, in ticks.

        Derived from a later packet where this one has none; None where none of the first packets has one.
        """
        with Source(self._data, self.limits) as other:
            for index, packet in enumerate(islice(other.demux(), MAX_REORDER + 1)):
                if index >= number and (stamp := clock(packet)) is not None:
                    # Matroska has none for the very first packet.
                    return stamp - (index - number) * self.ticks_per_frame
        return None

    def seconds(self) -> float:
        """Length of the video in seconds, by its packets' timestamps; the header's duration is ignored."""
        with Source(self._data, self.limits) as other:
            return other.length(other.demux())

    def length(self, packets: Iterable[Packet[VideoStream]]) -> float:
        """Length of a video of these packets, in seconds.

        Raises:
            ClipError: it is so long that the timestamps must be wrong.
        """
        count, first, end = 0, None, self.origin
        for packet in packets:
            count += 1
            stamp = packet.dts if self.counted else stamp_of(packet)
            if stamp is not None:
                first = stamp if first is None else first
                end = max(end, stamp + (self.ticks_per_frame if self.counted else packet.duration or 0))
        ticks = end - self.origin
        if self.counted:
            chunks = end - first if self.chunked and first is not None else 0
            ticks = max(count * self.ticks_per_frame, chunks)
        if ticks * self.time_base > self.limits.seconds:
            raise problem("bad_timestamps", most=self.limits.seconds)
        return float(ticks * self.time_base)

    def seek(self, ticks: int) -> bool:
        """Go to the key frame before a timestamp, in ticks. Returns whether that worked; if not, the file is
        reopened.
        """
        try:
            self.container.seek(ticks, stream=self.stream)
        except (av.FFmpegError, OverflowError):
            self.rewind()
            return False
        return True

    def demux(self) -> Iterator[Packet[VideoStream]]:
        """The packets from the current position to the file's end, in decoding order. Their number is limited
        here, since headers cannot be trusted.

        Raises:
            ClipError: there are too many.
        """
        for count, packet in enumerate(self._read()):
            if count > self.limits.frames:
                raise problem("too_many_frames", most=self.limits.frames)
            if packet.size:
                yield packet

    def _read(self) -> Iterator[Packet[VideoStream]]:
        try:
            yield from self.container.demux(self.stream)
        except IndexError:
            # PyAV 18 raises it at the end of a file in which a stream appeared on the way: it looks only for
            # the streams that it knew at the start. All packets were given before.
            return

    def check_refusal(self) -> None:
        """Call it when the decoder has failed. Raises ClipError where a frame's size was the reason."""
        context = self.stream.codec_context
        # Some decoders keep the size that they refused, others forget it.
        if context.width and context.height:
            self.limits.check_size(context.width, context.height)
        elif self._sized:
            raise problem("frame_too_large", most=self.limits.pixels)

    def rewind(self) -> None:
        """Reopen the file with a new decoder, at its start."""
        self.close()
        self._open()

    def close(self) -> None:
        """Free the decoder and the demuxer."""
        self.container.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _video_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """The first video stream that is not a cover picture, set up to decode in one thread.

    Raises:
        ClipError: there is none, or it is not allowed.
    """
    if len(container.streams) > limits.streams:
        raise problem("too_many_streams", most=limits.streams)
    stream = first_video(container)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise problem("no_video_stream", container=container.format.name, kinds=kinds)
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec not in CODECS:
        raise problem("unsupported_codec", codec=codec)
    context = stream.codec_context
    if context.width and context.height:
        limits.check_size(context.width, context.height)
    # Frame sizes may change on the way, and a decoder allocates before a frame can be checked. The decoder
    # counts padding to whole blocks, so its limit is a little higher; the exact one is checked on each frame.
    context.options = {"max_pixels": str(limits.pixels * 9 // 8 + 65_536)}
    # Videos are decoded side by side, so more threads in each would only contend.
    context.thread_count = 1
    return stream
