"""``python -m actionrec_gateway.live.reader_process``: reads a stranger's stream, and gives its windows.

    gateway                     this process
                             <- {ready}          with the defences that hold
  its kind, then its bytes ->  <- {opened}
                             <- {window}, then the bytes of its clip, then those of its picture
                             <- {gap}
                             <- {ended}

Before it looks at the stream it gives up all rights but to read from the gateway and to answer. FFmpeg opens no
address itself: what the stream refers to is not there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import threading
from contextlib import suppress
from fractions import Fraction
from typing import Any, BinaryIO, Protocol, cast

import av
import cv2
import numpy as np
from actionrec.sandbox import confine, zygote
from actionrec.sandbox.child import Connection as Peer
from actionrec.spec import ClipSpec
from actionrec.video.container import first_video, open_container
from actionrec.video.resize import Resizer, rounded

from actionrec_client.encoding import encode_pictures
from actionrec_client.live import clip
from actionrec_client.live.source import Connection, Listed, Source, SourceError
from actionrec_client.live.upright import Upright
from actionrec_client.live.window import RollingWindow, SampledWindow

from .kind import Kind

FORMATS = "mpegts,mpjpeg,mjpeg,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,h264,hevc,m4v"
"""Formats that can be read without going back, by the names of FFmpeg's demuxers."""
PICTURE_EDGE = 480
"""Pixels of the longer edge of a picture: it is for people."""
_MEMORY_BYTES = 1 << 30
"""Address space beside that of the start."""
_CPU_SECONDS = 24 * 3600
_LISTED: dict[Kind, Listed | None] = {Kind.PLAIN: None, Kind.LIVE: "live", Kind.RECORDED: "ends"}
_WHY = 300
"""Characters of a reason."""


class Answers(Protocol):
    """Where messages go."""

    def send(self, message: dict[str, Any], *parts: bytes) -> None:
        """Send a message and the bytes that go with it."""


class _Socket:
    """The gateway's end: video comes from it, messages go to it.

    Args:
        descriptor: of the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._peer = Peer(descriptor)

    def read(self, count: int) -> bytes:
        """As many bytes as there are, one at least; none at the end."""
        return os.read(self._peer.descriptor, count)

    def send(self, message: dict[str, Any], *parts: bytes) -> None:
        """See `Answers`."""
        self._peer.send(message)
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(self._peer.descriptor, rest) :]


def watch(
    file: BinaryIO,
    source: Source,
    spec: ClipSpec,
    interval_seconds: float,
    answers: Answers,
    kind: Kind = Kind.PLAIN,
) -> None:
    """Send the windows of a stream until it ends.

    Args:
        file: has ``read`` and no more.
        source: what it is called in messages.
        spec: what the model eats.
        interval_seconds: from one window to the next.
        answers: where to.
        kind: how its bytes come.

    Raises:
        SourceError: it is no video that can be read, or it broke.
    """
    try:
        container = open_container(file, FORMATS)
        stream = first_video(container)
        if stream is not None:
            stream.codec_context.thread_count = 1  # no thread can be started here
        connection = Connection(source, container, threading.Event(), listed=_LISTED[kind])
    except (av.FFmpegError, OSError, ValueError) as error:
        raise source.failed("is no stream that can be watched", error) from error
    with connection:
        _windows(connection, spec, interval_seconds, answers)
    answers.send({"ended": {"finite": connection.finite}})


def _windows(connection: Connection, spec: ClipSpec, interval_seconds: float, answers: Answers) -> None:
    resize, upright = Resizer(spec), Upright(PICTURE_EDGE)
    piece: RollingWindow | None = None
    picture = np.zeros((2, 2, 3), np.uint8)

    def send(window: SampledWindow) -> None:
        data = clip.encode(window.frames, spec)
        about = {
            "start_seconds": window.start_seconds,
            "end_seconds": window.end_seconds,
            "arrived": window.arrived,
            "clip_bytes": len(data),
            "picture": picture.shape[:2],
        }
        answers.send({"window": about}, data, picture.tobytes())

    for arrival in connection.frames():
        if piece is None or arrival.gap is not None:
            if piece is None:
                answers.send({"opened": {"width": arrival.frame.width, "height": arrival.frame.height}})
                offset = 0.0
            else:
                answers.send({"gap": str(arrival.gap)[:_WHY]})
                offset = piece.end_seconds
            piece = RollingWindow(spec, interval_seconds, connection.time_base, offset)
        if piece.wants(arrival.ticks):
            pixels = rounded(resize(arrival.frame)[0])
            for window in piece.add(arrival.ticks, pixels, arrival.arrived, arrival.lag_seconds):
                picture = upright(arrival.frame)
                send(window)
    if piece is not None and connection.finite:
        for window in piece.finish():
            send(window)


class _Nobody:
    def send(self, message: dict[str, Any], *parts: bytes) -> None:
        pass


def _rehearse(spec: ClipSpec) -> None:
    """Use everything once: afterwards no module can be loaded."""
    cv2.setNumThreads(1)
    zygote.rehearse()
    black = [np.zeros((48, 64, 3), np.uint8)] * 3
    for data in (encode_pictures(black, Fraction(1, 30)), b"no video"):
        with suppress(SourceError):
            watch(io.BytesIO(data), Source("http://rehearsal/"), spec, 1.0, _Nobody())


def main() -> None:
    """Get ready, and answer until the stream ends or the gateway hangs up."""
    parser = argparse.ArgumentParser(prog="python -m actionrec_gateway.live.reader_process")
    for name in ("socket", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--order", type=json.loads, required=True)
    given = parser.parse_args()
    spec = ClipSpec.from_description(given.order["spec"])
    source = Source(given.order["shown"])  # it looks for a file of that name, which later it may not
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    _rehearse(spec)
    answers = _Socket(given.socket)
    memory = confine.address_space() + _MEMORY_BYTES
    defences = confine.confine_zygote(given.parent) | confine.confine_child(given.parent, memory, _CPU_SECONDS)
    answers.send({"ready": defences})
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the gateway has hung up
        try:
            if first := answers.read(1):
                video, interval = cast(BinaryIO, answers), given.order["interval_seconds"]
                watch(video, source, spec, interval, answers, Kind(first))
        except SourceError as error:
            answers.send({"ended": {"finite": False, "reason": error.message[:_WHY]}})


if __name__ == "__main__":
    main()
