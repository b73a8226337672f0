"""Bytes -> an opened container and its video stream, or an error that says what the bytes are.

FFmpeg opens far more than video files: playlists that name other files and addresses, for one. Nothing but
the formats listed here is probed, and no protocol is allowed, so a file can refer to nothing outside itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from .errors import ClipError
from .limits import DEFAULT_LIMITS, Limits
from .recognise import FFMPEG_LINE, no_video, unreadable

MAX_REORDER = 16
"""FFmpeg reorders by at most 16 frames (H.264 and HEVC), so this many packets past a window's end close it."""

# How far before a window the first search for its key frame starts, in seconds; doubled until one is found.
_SEEK_MARGIN_SECONDS = 1.0

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,ivf,h264,hevc,m4v,mpegvideo"
"""FFmpeg's demuxer names."""

_BARE_STREAMS = frozenset({"h264", "hevc", "mpegvideo", "m4v"})

CODECS = frozenset(
    {"h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video"}
    | {"mpeg1video", "mjpeg", "h263", "flv", "theora", "wmv1", "wmv2", "wmv3", "vc1"}
    | {"msmpeg4v1", "msmpeg4v2", "msmpeg4", "prores", "dnxhd", "gif"}
)
"""FFmpeg's decoder names."""


def open_container(file: BinaryIO) -> InputContainer:
    """Open a file in the way that no content can use to reach another file or address. Nothing is decoded.

    Raises:
        av.FFmpegError, ValueError, OSError, MemoryError: it is no container that is let in, or not whole.
    """
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "none",
        # Opening probes the stream by decoding its first frames, and throws them away.
        # Headers say all that is needed here, so the probe's decoder is told to skip every frame.
        "skip_frame": "all",
    }
    return av.open(file, mode="r", metadata_errors="replace", options=options)


def first_video(container: InputContainer) -> VideoStream | None:
    """The video stream that counts: the first that is not a cover picture."""
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


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
        self._open()
        self.origin = self._find_origin()
        """The stream's first timestamp, in ticks."""

    def _open(self) -> None:
        try:
            self.container = open_container(io.BytesIO(self._data))
        except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
            raise unreadable(self._data, error) from error
        try:
            self.stream = _video_stream(self.container, self.limits)
            self._sized = bool(self.stream.codec_context.width)
        except ClipError:
            self.container.close()
            raise

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def counted(self) -> bool:
        """Whether time is told by counting frames: the format has a rate but no presentation times.

        AVI has none for reordered frames: what FFmpeg guesses puts them in a wrong order.
        """
        name = self.container.format.name
        return name in _BARE_STREAMS or (name == "avi" and self.stream.codec_context.has_b_frames)

    @property
    def ticks_per_frame(self) -> int:
        """The nominal frame time; of 25 frames a second where the stream states no rate."""
        # A bare stream's average rate is a default of the demuxer's; the guessed one is read from the codec.
        rate = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        return max(1, round(1 / (rate * self.time_base)))

    def _find_origin(self) -> int:
        if self.counted:
            return 0
        if self.stream.start_time is not None:
            return self.stream.start_time
        # Matroska with B-frames: the first frame shown is among the first packets, in any place.
        first = islice(self.container.demux(self.stream), MAX_REORDER + 1)
        stamps = [packet.pts for packet in first if packet.pts is not None]
        self.rewind()
        return min(stamps, default=0)

    def seconds(self) -> float:
        """Length of the clip by its packets' timestamps; what its header says plays no part."""
        with Source(self._data, self.limits) as other:
            packets = other.demux()
            if other.counted:
                return float(sum(1 for _ in packets) * other.ticks_per_frame * other.time_base)
            ends = (stamp + (p.duration or 0) for p in packets if (stamp := _stamp(p)) is not None)
            return float((max(ends, default=other.origin) - other.origin) * other.time_base)

    def packets(self, first: int, stop: int) -> list[Packet[VideoStream]]:
        """The packets that decoding of [first, stop) takes, in decoding order: from the last key frame at or
        before `first` on. Call it once only.

        Args:
            first, stop: in ticks.
        """
        margin = _SEEK_MARGIN_SECONDS
        if self.counted:
            return list(islice(self._until(stop), stop // self.ticks_per_frame + MAX_REORDER))
        # A file that was just opened stands at its start already, and some formats cannot seek at all.
        while (target := first - int(margin / self.time_base)) > self.origin and self._seek(target):
            packets = list(self._until(stop))
            key = next((p.pts for p in packets if p.is_keyframe and p.pts is not None), None)
            if key is not None and key <= first:
                return packets
            margin *= 2
        if margin > _SEEK_MARGIN_SECONDS:
            self.rewind()
        return list(self._until(stop))

    def _seek(self, ticks: int) -> bool:
        """Go to the key frame before a timestamp. Says whether that worked; if not, all is as when opened."""
        try:
            self.container.seek(ticks, stream=self.stream)
        except av.FFmpegError:
            self.rewind()
            return False
        return True

    def demux(self) -> Iterator[Packet[VideoStream]]:
        """The packets from where the file stands to its end, in decoding order. They are counted: headers lie.

        Raises:
            ClipError: they are too many.
        """
        for count, packet in enumerate(self.container.demux(self.stream)):
            if count > self.limits.frames:
                raise ClipError(
                    "TOO_MANY_FRAMES",
                    413,
                    f"The part of the video that was asked for has more than {self.limits.frames:,} frames.",
                    "Ask for less of it (start_seconds, end_seconds), or send it in pieces.",
                )
            if packet.size:
                yield packet

    def check_refusal(self) -> None:
        """Call it when the decoder has failed: raises the ClipError where a frame's size was the reason."""
        context = self.stream.codec_context
        # Some decoders keep the size that they have refused, others forget it.
        if context.width and context.height:
            self.limits.check_size(context.width, context.height)
        elif self._sized:
            raise self.limits.too_large("A frame in it is")

    def rewind(self) -> None:
        """Open the file anew, with a new decoder, to read it from its start."""
        self.close()
        self._open()

    def _until(self, stop: int) -> Iterator[Packet[VideoStream]]:
        """Up to the last packet before `stop`. (Decoding times do not tell: Matroska's are guessed.)"""
        beyond: list[Packet[VideoStream]] = []
        for packet in self.demux():
            stamp = _stamp(packet)
            if stamp is not None and stamp >= stop and not self.counted:
                beyond.append(packet)
                if len(beyond) > MAX_REORDER:
                    return
            else:
                yield from beyond
                beyond.clear()
                yield packet

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
        raise ClipError(
            "TOO_MANY_STREAMS",
            422,
            f"The file has more than {limits.streams} streams.",
            f"Keep the one that is to be classified: {FFMPEG_LINE}",
        )
    stream = first_video(container)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise no_video(f"The file ({container.format.name}) has no video stream; it has: {kinds}.")
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec not in CODECS:
        raise ClipError(
            "UNSUPPORTED_CODEC",
            415,
            f"The video is coded with {codec}, which this service does not decode.",
            f"Convert it first: {FFMPEG_LINE}",
        )
    context = stream.codec_context
    if context.width and context.height:
        limits.check_size(context.width, context.height)
    # Sizes may change on the way, and a decoder takes the memory before a frame can be looked at. It counts
    # the padding to whole blocks, so it has a little more than the limit, which is checked on each frame.
    context.options = {"max_pixels": str(limits.pixels * 9 // 8 + 65_536)}
    # Clips are decoded side by side, so more threads in each would only contend.
    context.thread_count = 1
    return stream


def _stamp(packet: Packet[VideoStream]) -> int | None:
    return packet.pts if packet.pts is not None else packet.dts
