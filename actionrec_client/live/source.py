"""Where frames come from: a camera, RTSP, HTTP, or a file played at its own speed.

A connection is a generator of frames with the times at which they arrived. When decoding cannot keep up, frames
are dropped until it can.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..bearer import hide_password
from .clock import Clock

Listed = Literal["live", "ends"]
"""A source that is a list of segments, to which more are added or not."""
RtspTransport = Literal["tcp", "udp"]
"""How RTSP carries the video."""
TIMEOUT_SECONDS = 10.0
MAX_LAG_SECONDS = 0.5
"""A frame that comes later than this is decoded and dropped. Decoders and networks jitter by less."""
# At a lag of so many times the largest one that is allowed, nothing is decoded until the next key frame.
_HOPELESS = 4
# A stream that is late for longer than this does not catch up: its delay has grown, and counts as normal from
# then on.
_CATCH_UP_SECONDS = 5.0
# A hole in a live stream's timestamps longer than this is a gap, and so is a step back.
_HOLE_SECONDS = 1.0
# A file may show one picture for some time, but nobody waits for a minute.
_FILE_HOLE_SECONDS = 60.0
# These formats have no timestamps that can be used. In a file frames are counted, as `video.container` of the
# core does. In a live stream the time of arrival is taken (cameras that send JPEGs send them at any rate).
_COUNTED = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "mpjpeg"})
_LISTED = frozenset({"hls", "dash"})
_CLOCK = Fraction(1, 90_000)


class SourceError(Exception):
    """A source that cannot be opened, or that broke.

    Args:
        message: what was asked for and what happened.
        hint: what to do about it; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A decoded frame and when it came."""

    frame: VideoFrame
    ticks: int
    """Timestamp, in ticks of the connection's time base."""
    arrived: float
    """`time.monotonic` seconds."""
    lag_seconds: float
    """How much later than the connection's promptest frame it came, by its timestamp."""
    gap: str | None = None
    """Why there is a gap between the frame before and this one; None: there is none."""


class Source:
    """A source that the user named. Nothing is opened yet.

    Args:
        text: ``/dev/video0`` or ``0`` (a camera), ``rtsp://...``, ``http(s)://...``, another address
            that FFmpeg knows, or the path of a file.
        timeout_seconds: to connect, and then for every read.
        transport: how RTSP carries the video.
        max_lag_seconds: frames that come later than this are dropped.

    Raises:
        SourceError: a file or a camera that is not there.
    """

    def __init__(
        self,
        text: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: RtspTransport = "tcp",
        max_lag_seconds: float = MAX_LAG_SECONDS,
    ) -> None:
        self.text = f"/dev/video{text}" if re.fullmatch(r"[0-9]+", text) else text
        self.timeout_seconds = timeout_seconds
        self.max_lag_seconds = max_lag_seconds
        self._transport = transport
        scheme = urlsplit(self.text).scheme.lower() if "://" in self.text else ""
        if Path(self.text).is_char_device() or re.fullmatch(r"/dev/video[0-9]+", self.text):
            self.kind = "camera"
            if not Path(self.text).exists():
                raise SourceError(f"There is no camera {self.text}.", _cameras())
        elif scheme:
            self.kind = {"rtsps": "rtsp", "https": "http", "file": "file"}.get(scheme, scheme)
        else:
            self.kind = "file"
            if not Path(self.text).is_file():
                hint = "Name a file, a camera (0 or /dev/video0), or an address (rtsp://..., http://...)."
                raise SourceError(f"There is no file {self.text}.", hint)

    @property
    def shown(self) -> str:
        """The source without its secrets, for people and logs."""
        return hide_password(self.text)

    def open(self, stop: threading.Event) -> Connection:
        """Connect.

        Args:
            stop: ends the connection's frames when it is set.

        Raises:
            SourceError: nothing answers, or what answers is no video.
        """
        try:
            container = av.open(
                self.text,
                mode="r",
                format="v4l2" if self.kind == "camera" else None,
                options=self._options(),
                metadata_errors="replace",
                timeout=(self.timeout_seconds, self.timeout_seconds),
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self.failed("cannot be opened", error) from error
        try:
            return Connection(self, container, stop)
        except SourceError:
            container.close()
            raise

    def _options(self) -> dict[str, str]:
        if self.kind == "rtsp":
            # UDP loses packets behind firewalls and on busy networks, and the picture with them.
            return {"rtsp_transport": self._transport, "fflags": "nobuffer", "allowed_media_types": "video"}
        if self.kind == "http":
            # A file whose transfer is cut goes on where it was; a live stream cannot, and is called again.
            return {"reconnect": "1", "reconnect_delay_max": str(math.ceil(self.timeout_seconds))}
        return {}

    def failed(self, what: str, error: Exception) -> SourceError:
        """The error for what FFmpeg says."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = {
            "rtsp": "Check address, user and password, and that the camera streams; try --transport udp.",
            "http": "Check the address with: curl -I ADDRESS",
            "camera": "Is it in use by another program? May you read it (group video)?",
        }.get(self.kind, "Is it a video? Play it with: ffplay SOURCE")
        return SourceError(f"{self.shown} {what}: {reason[0].lower()}{reason[1:]}.", hint)


class Connection:
    """An open source. Iterate `frames` once; close it, or use it in a ``with`` statement.

    Args:
        source: that was opened.
        container: of its video.
        stop: ends `frames` when it is set.
        listed: where the container is given the segments of a list one after another; None: it opened the
            source itself.

    Raises:
        SourceError: it has no video.
    """

    def __init__(
        self,
        source: Source,
        container: InputContainer,
        stop: threading.Event,
        *,
        listed: Listed | None = None,
    ) -> None:
        self._source = source
        self._container = container
        self._stop = stop
        streams = container.streams.video
        if not streams:
            raise SourceError(f"{source.shown} has no video stream.")
        self._stream: VideoStream = streams[0]
        # Slices, and not frames, side by side: those would come out several frames late.
        self._stream.codec_context.thread_type = "SLICE"
        opens_list = container.format.name in _LISTED
        # The size of one that is a list of segments is the list's own, and says nothing of an end.
        ends = container.duration is not None or (container.size > 0 and not opens_list)
        own = source.kind == "file" or (source.kind == "http" and ends)
        self.finite = own if listed is None else listed == "ends"
        """Whether it has an end: then it is played at its own speed, and over when it ends."""
        # Segments arrive faster than they play, so these are played at their own speed too.
        self._paced = self.finite or opens_list or listed is not None
        self._counted = container.format.name in _COUNTED
        self._by_arrival = self._counted and not self.finite
        self.time_base = (None if self._by_arrival else self._stream.time_base) or _CLOCK
        """Seconds per tick of the frames' timestamps."""
        rate = self._stream.guessed_rate or self._stream.average_rate or Fraction(25)
        self._ticks_per_frame = max(1, round(1 / (rate * self.time_base)))
        self.dropped = 0
        """Frames that came and were not given out, up to now."""

    def frames(self) -> Iterator[Arrival]:
        """Frames in the order of their timestamps, until the source ends or `stop` is set.

        Raises:
            SourceError: the connection broke, or nothing came for too long.
        """
        clock = Clock(float(self.time_base), played=self._paced)
        last: int | None = None
        late_since: float | None = None
        dropped = count = 0
        try:
            for frame in self._decoded(clock):
                ticks = self._ticks(frame, count)
                count += 1
                back = last is not None and ticks <= last
                if back and not self._is_hole(last, ticks):
                    self.dropped += 1  # a frame that came twice, or out of order
                    continue
                leap = back or self._is_hole(last, ticks, _FILE_HOLE_SECONDS)
                if leap:
                    clock.restart()
                if self._paced and self._stop.wait(clock.early(ticks)):
                    return
                arrived = time.monotonic()
                clock.late = clock.lag(ticks, arrived)
                if clock.late > self._source.max_lag_seconds:
                    late_since = late_since or arrived
                    if arrived - late_since < _CATCH_UP_SECONDS:
                        self.dropped += 1
                        continue
                    clock.restart()
                    clock.late = clock.lag(ticks, arrived)
                late_since = None
                gap = None
                # The frames of a file may stand for seconds each; those that we dropped make a hole.
                if leap or (self._is_hole(last, ticks) and (not self.finite or self.dropped > dropped)):
                    gap = self._gap(last, ticks, self.dropped - dropped)
                last, dropped = ticks, self.dropped
                yield Arrival(frame, ticks, arrived, clock.late, gap)
        except (av.FFmpegError, OSError) as error:
            if self._stop.is_set():
                return
            raise self._source.failed("broke off", error) from error

    def _ticks(self, frame: VideoFrame, count: int) -> int:
        """The frame's timestamp."""
        if self._by_arrival:
            return round(time.monotonic() / self.time_base)
        stamp = frame.pts if frame.pts is not None else frame.dts
        return count * self._ticks_per_frame if stamp is None or self._counted else stamp

    def _is_hole(self, last: int | None, ticks: int, seconds: float = _HOLE_SECONDS) -> bool:
        hole = max(seconds / self.time_base, 5 * self._ticks_per_frame)
        return last is not None and abs(ticks - last) > hole

    def _gap(self, last: int | None, ticks: int, dropped: int) -> str:
        seconds = float((ticks - (last or 0)) * self.time_base)
        if dropped:
            return f"{seconds:.1f} s dropped to catch up"
        return f"the timestamps jumped by {seconds:+.1f} s"

    def _decoded(self, clock: Clock) -> Iterator[VideoFrame]:
        context = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            if self._stop.is_set():
                return
            if clock.late > _HOPELESS * self._source.max_lag_seconds:
                context.skip_frame = "NONKEY"
            elif clock.late <= self._source.max_lag_seconds:
                context.skip_frame = "DEFAULT"
            try:
                yield from context.decode(packet if packet.size else None)
            except av.InvalidDataError:
                self.dropped += 1  # what a lost network packet leaves behind

    def close(self) -> None:
        """Free the decoder and the connection."""
        self._container.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cameras() -> str:
    found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
    return f"There are: {found}." if found else "No camera is connected (no /dev/video*)."
