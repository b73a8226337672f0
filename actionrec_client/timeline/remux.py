"""A video file -> parts of it, cut on key frames by copying packets. Nothing is decoded or encoded.

    packets      K . . . . . K . . . . . K . . . . . K . .
    wanted               [start ------------ end)
    part                     K . . . . . K . . . . . K        from the key frame before, to a packet behind

A part's own clock starts at its key frame: time t of the part is time t + `Part.offset_seconds` of the whole.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from actionrec.video.container import first_video, open_container
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

# FFmpeg's demuxer -> the muxer that takes the same packets and keeps their times.
_MUXERS = {"mov": "mp4", "matroska": "matroska", "mpegts": "mpegts"}
# Those that MP4 takes; QuickTime takes more.
_MP4_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "mpeg4"})
_SEEK_MARGINS_SECONDS = (0.0, 1.0, 8.0, 64.0, 1e6)
_CLOCK_SECONDS = 1e-6
_SAME = {"fflags": "bitexact"}
"""The same part has the same bytes each time it is cut: no random numbers as Matroska's muxer writes them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a video as a file of its own."""

    data: bytes
    offset_seconds: float
    """Where its first frame stands in the whole."""


class NotCuttable(Exception):
    """No parts can be made of the file, by its format or its state; it has to be sent whole."""


class CuttableVideo:
    """A video file and the index of it: where its key frames are, and how many bytes lie between.

    Args:
        source: a path, the bytes of a file, or a function that opens the file anew each time it is called.

    Raises:
        NotCuttable: it cannot be opened, has no video stream, or no times to cut by.
    """

    def __init__(self, source: Path | bytes | Callable[[], BinaryIO]) -> None:
        self._source = source
        try:
            with self._open() as container:
                stream = video_stream(container)
                self._muxer = _muxer(container, stream)
                self._time_base = stream.time_base or Fraction(1, 1000)
                self._index(container, stream)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise NotCuttable(str(error)) from error

    def _index(self, container: InputContainer, stream: VideoStream) -> None:
        self._keys = array("q")
        """Timestamps of the key frames; the first packet counts as one, whatever it is."""
        self._bytes_before = array("q")
        """Bytes of the stream's packets before each of them."""
        start = stream.start_time  # before packets are read: FFmpeg changes it while it reads Matroska
        size, first, end = 0, None, 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None or packet.is_discard:
                raise NotCuttable("its packets have no times of their own")
            if packet.is_keyframe or not self._keys:
                self._keys.append(packet.pts)
                self._bytes_before.append(size)
            size += packet.size
            first = packet.pts if first is None else min(first, packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
        if first is None or not self._keys or list(self._keys) != sorted(set(self._keys)):
            raise NotCuttable("its key frames are in no order")
        self._origin = first if start is None else start
        self._size = size
        self.seconds = float((end - self._origin) * self._time_base)
        """Length by its packets' timestamps, as a server measures it."""

    def size(self, start_seconds: float, end_seconds: float) -> int:
        """Bytes that a part will have, about."""
        last = bisect_right(self._keys, self._ticks(end_seconds))
        end = self._bytes_before[last] if last < len(self._keys) else self._size
        return end - self._bytes_before[self._key_before(start_seconds)]

    def part(self, start_seconds: float, end_seconds: float) -> Part:
        """All packets that decoding of [start, end) takes, and at least one after them, as a file.

        Args:
            start_seconds, end_seconds: from the first frame.

        Raises:
            NotCuttable: the part's times would not be those of the whole.
        """
        key = self._keys[self._key_before(start_seconds)]
        file = io.BytesIO()
        stamps: list[int] = []
        try:
            with self._open() as container, av.open(file, "w", format=self._muxer, options=_SAME) as output:
                stream = video_stream(container)
                packets = list(self._packets(container, stream, key, self._ticks(end_seconds)))
                copy = output.add_stream_from_template(stream)
                for packet, pts, dts in _stamped(packets):
                    packet.pts, packet.dts, packet.stream = pts - key, dts - key, copy
                    stamps.append(pts)
                    output.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise NotCuttable(str(error)) from error
        data = file.getvalue()
        self._check(data, sorted(stamps))
        return Part(data, float((key - self._origin) * self._time_base))

    def _packets(
        self, container: InputContainer, stream: VideoStream, key: int, stop: int
    ) -> Iterator[Packet[VideoStream]]:
        """From a key frame to the first packet after `stop`, without frames that are shown before the key."""
        for margin_seconds in _SEEK_MARGINS_SECONDS:
            # In some formats a seek lands later than asked for; the last margin leads to the file's start.
            if key != self._keys[0]:  # a file that was just opened stands at its start
                target = max(self._origin, key - int(margin_seconds / self._time_base))
                container.seek(target, stream=stream)
            begun = False
            for packet in container.demux(stream):
                stamp = packet.dts if packet.dts is not None else packet.pts
                if not packet.size or packet.pts is None or stamp is None:
                    continue
                if packet.pts == key and (packet.is_keyframe or key == self._keys[0]):
                    begun = True
                elif not begun and packet.is_keyframe and packet.pts > key:
                    break
                if begun and packet.pts >= key:
                    yield packet
                if begun and stamp >= stop and packet.dts is not None:
                    return
            if begun:
                return
        raise NotCuttable("its key frames are not found again")

    def _check(self, data: bytes, stamps: list[int]) -> None:
        """The part, read as a server reads it, has the same frames at the same times."""
        with opened(data) as container:
            stream = video_stream(container)
            base, origin = stream.time_base or Fraction(1, 1000), stream.start_time
            found = sorted(p.pts for p in container.demux(stream) if p.size and p.pts is not None)
        if len(found) != len(stamps):
            raise NotCuttable("packets were lost")
        first = found[0] if origin is None else origin
        for mine, theirs in zip(found, stamps, strict=True):
            if abs((mine - first) * base - (theirs - stamps[0]) * self._time_base) > _CLOCK_SECONDS:
                raise NotCuttable("its times are not kept")

    def _key_before(self, seconds: float) -> int:
        return max(0, bisect_right(self._keys, self._ticks(seconds)) - 1)

    def _ticks(self, seconds: float) -> int:
        return int(seconds / self._time_base + _CLOCK_SECONDS) + self._origin

    def _open(self) -> AbstractContextManager[InputContainer]:
        return opened(self._source)


@contextmanager
def opened(source: Path | bytes | Callable[[], BinaryIO]) -> Iterator[InputContainer]:
    """A file as a server opens it: no playlist in it can reach another file or address."""
    with _file(source) as file, open_container(file) as container:
        yield container


def _file(source: Path | bytes | Callable[[], BinaryIO]) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return source.open("rb") if isinstance(source, Path) else source()


def _stamped(packets: list[Packet[VideoStream]]) -> Iterator[tuple[Packet[VideoStream], int, int]]:
    """(packet, pts, dts) of each; decoding times that a format does not have are made from those of display."""
    shown = [packet.pts for packet in packets if packet.pts is not None]
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    if len(decoded) < len(shown):
        in_order = sorted(shown)
        delay = max(late - pts for late, pts in zip(in_order, shown, strict=True))
        decoded = [pts - delay for pts in in_order]
    return zip(packets, shown, decoded, strict=True)


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream that a server looks at.

    Raises:
        NotCuttable: there is none.
    """
    stream = first_video(container)
    if stream is None:
        raise NotCuttable("it has no video stream")
    return stream


def _muxer(container: InputContainer, stream: VideoStream) -> str:
    name = container.format.name.split(",")[0]
    if name not in _MUXERS:
        raise NotCuttable(f"{name} files cannot be cut")
    muxer = _MUXERS[name]
    return "mov" if muxer == "mp4" and stream.codec_context.name not in _MP4_CODECS else muxer
