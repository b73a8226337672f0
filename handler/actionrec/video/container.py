"""Bytes -> an opened container and its video stream, or an error that says what the bytes are.

FFmpeg opens far more than video files: playlists that name other files and addresses, for one. Nothing but
the formats listed here is probed, and no protocol is allowed, so a file can refer to nothing outside itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import ClipError
from ..limits import DEFAULT_LIMITS, Limits
from ..problems import problem, unreadable
from .sample_tables import too_many_samples
from .transport_stream import is_transport_stream, programs

MAX_REORDER = 16
"""FFmpeg reorders by at most 16 frames (H.264 and HEVC), so this many packets past a window's end close it."""

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,ivf,h264,hevc,m4v,mpegvideo"
"""FFmpeg's demuxer names."""

Clock = Callable[["Packet[VideoStream]"], "int | None"]
"""Tells when a packet is decoded, in ticks."""

_BARE_STREAMS = frozenset({"h264", "hevc", "mpegvideo", "m4v"})

CODECS = frozenset(
    {"h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video"}
    | {"mpeg1video", "mjpeg", "h263", "flv", "theora", "wmv1", "wmv2", "msmpeg4v2", "msmpeg4", "prores"}
    | {"dnxhd", "gif"}
)
"""FFmpeg's decoder names: those that are fuzzed. For wmv3, vc1 and msmpeg4v1 there is no file to start from."""


def open_container(file: BinaryIO, formats: str = CONTAINERS) -> InputContainer:
    """Open a file in the way that no content can use to reach another file or address. Nothing is decoded.

    Args:
        file: a video.
        formats: those of `CONTAINERS` that it may be in.

    Raises:
        av.FFmpegError, ValueError, OSError, MemoryError: it is no container that is let in, or not whole.
    """
    options = {
        "format_whitelist": formats,
        "protocol_whitelist": "none",
        # Opening probes the stream by decoding its first frames, and throws them away.
        # Headers say all that is needed here, so the probe's decoder is told to skip every frame.
        "skip_frame": "all",
        # Even so it opens decoders; no other than those that are let in.
        "codec_whitelist": ",".join(sorted(CODECS)),
    }
    return av.open(file, mode="r", metadata_errors="replace", options=options)


def first_video(container: InputContainer) -> VideoStream | None:
    """The video stream that counts: the first that is not a cover picture."""
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def stamp_of(packet: Packet[VideoStream]) -> int | None:
    """A packet's timestamp, in ticks: of presentation, or where it has none, of decoding."""
    return packet.pts if packet.pts is not None else packet.dts


class Source:
    """The video stream of a file in memory. Close it, or use it in a ``with`` statement.

    Args:
        data: a whole video file.
        limits: how many streams, pixels and packets it may have.

    Raises:
        ClipError: from the constructor: the bytes are no video, or one that is not let in.
    """

    def __init__(self, data: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
        self._data = data
        self.limits = limits
        self._formats = CONTAINERS
        if not is_transport_stream(data):
            # What is not looked through below is not to be taken for one either.
            self._formats = ",".join(name for name in CONTAINERS.split(",") if name != "mpegts")
        elif programs(data, limits.streams) > limits.streams:
            raise problem("too_many_streams", most=limits.streams)
        if too_many_samples(data):
            raise problem("too_many_samples")
        self._open()
        self.origin = self._find_origin()
        """The stream's first timestamp, in ticks."""

    def _open(self) -> None:
        try:
            self.container = open_container(io.BytesIO(self._data), self._formats)
        except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
            raise unreadable(self._data, error) from error
        try:
            self.stream = _video_stream(self.container, self.limits)
            name = self.container.format.name
            self.chunked = name == "avi" and bool(self.stream.codec_context.has_b_frames)
            """Whether a packet's decoding time is the number of a chunk. An AVI has no other, so what FFmpeg
            guesses of reordered frames puts them in a wrong order."""
            # Asked once: a decoder may find out on the way that it reorders.
            self.counted = self.chunked or name in _BARE_STREAMS
            """Whether time is told by counting frames: the format has a rate but no presentation times."""
            self._sized = bool(self.stream.codec_context.width)
        except ClipError:
            self.container.close()
            raise

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def ticks_per_frame(self) -> int:
        """The nominal frame time; of 25 frames a second where the stream states no rate."""
        # A bare stream's average rate is a default of the demuxer's; the guessed one is read from the codec.
        rate = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        return max(1, round(1 / (rate * self.time_base)))

    def _find_origin(self) -> int:
        if self.counted:
            return 0
        # An AVI starts at 0, though FFmpeg may guess that the first frame is shown later.
        if self.stream.start_time is not None and self.container.format.name != "avi":
            return self.stream.start_time
        # Matroska with B-frames: the first frame shown is among the first packets, in any place.
        first = islice(self._read(), MAX_REORDER + 1)
        stamps = [packet.pts for packet in first if packet.pts is not None]
        self.rewind()
        return min(stamps, default=0)

    def arrival(self, number: int, clock: Clock) -> int | None:
        """The time of decoding of one of the file's first packets, in ticks; None where none of these says."""
        with Source(self._data, self.limits) as other:
            for index, packet in enumerate(islice(other.demux(), MAX_REORDER + 1)):
                if index >= number and (stamp := clock(packet)) is not None:
                    # Matroska does not say of the very first.
                    return stamp - (index - number) * self.ticks_per_frame
        return None

    def seconds(self) -> float:
        """Length of the clip by its packets' timestamps; what its header says plays no part."""
        with Source(self._data, self.limits) as other:
            return other.length(other.demux())

    def length(self, packets: Iterable[Packet[VideoStream]]) -> float:
        """How long a clip of these packets is, in seconds.

        Raises:
            ClipError: so long that the timestamps must be wrong.
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
        """Go to the key frame before a timestamp. Says whether that worked; if not, all is as when opened."""
        try:
            self.container.seek(ticks, stream=self.stream)
        except (av.FFmpegError, OverflowError):
            self.rewind()
            return False
        return True

    def demux(self) -> Iterator[Packet[VideoStream]]:
        """The packets from where the file stands to its end, in decoding order. They are counted: headers lie.

        Raises:
            ClipError: they are too many.
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
            # Streams have appeared on the way, and PyAV 18 looks for them among those that it knew at the
            # start. It does so at the end, when all packets were given.
            return

    def check_refusal(self) -> None:
        """Call it when the decoder has failed: raises the ClipError where a frame's size was the reason."""
        context = self.stream.codec_context
        # Some decoders keep the size that they have refused, others forget it.
        if context.width and context.height:
            self.limits.check_size(context.width, context.height)
        elif self._sized:
            raise problem("frame_too_large", most=self.limits.pixels)

    def rewind(self) -> None:
        """Open the file anew, with a new decoder, to read it from its start."""
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
    """The first video stream that is not a cover picture, set up to decode on one thread."""
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
    # Sizes may change on the way, and a decoder takes the memory before a frame can be looked at. It counts
    # the padding to whole blocks, so it has a little more than the limit, which is checked on each frame.
    context.options = {"max_pixels": str(limits.pixels * 9 // 8 + 65_536)}
    # Clips are decoded side by side, so more threads in each would only contend.
    context.thread_count = 1
    return stream
