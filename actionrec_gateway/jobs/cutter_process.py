"""``python -m actionrec_gateway.jobs.cutter_process``: reads one stranger's video file, and cuts parts from it.

    gateway                              this process
                                      <- {ready}           with the defences that hold
      {cuttable} ->                   <- {seconds}, or {not_cuttable}
      {size: [start, end]} ->         <- {size}
      {part: [start, end]} ->         <- {offset, bytes}, then the bytes; or {not_cuttable}
      {length} ->                     <- {seconds}, or {error}: of a video that cannot be cut

Before it looks at the video it gives up all rights but to read this one file and to answer: what the file may
do to FFmpeg ends here. It ends with the gateway.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import pkgutil
import signal
from contextlib import suppress
from typing import Any, BinaryIO, cast

import av
from actionrec.errors import ClipError
from actionrec.problems import to_wire
from actionrec.sandbox import confine, wire
from actionrec.sandbox.child import Connection
from actionrec.video import container

from actionrec_client.timeline.remux import CuttableVideo, NotCuttable

_MEMORY_BYTES = 2 << 30
"""Address space beside that of the start: a part is in memory four times while it is written and checked."""
_CPU_SECONDS = 3600
_WHY = 200
"""Characters of a reason."""


class _File(io.RawIOBase):
    """A file by a descriptor that is shared with others of its kind: each keeps its own place."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0
        self._size = os.lseek(descriptor, 0, os.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any buffer
        os.lseek(self._descriptor, self._at, os.SEEK_SET)
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Answers:
    """What the gateway is answered.

    Args:
        descriptor: of the video.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._video: CuttableVideo | None = None

    def _open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_File(self._descriptor), 1 << 16))

    def to(self, message: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer to a message, and the bytes that follow it."""
        try:
            if "cuttable" in message:
                self._video = CuttableVideo(self._open)
                return {"seconds": self._video.seconds}, b""
            if "length" in message:
                with self._open() as file, container.Source(file.read()) as source:
                    return {"seconds": source.seconds()}, b""
            if self._video is None:
                raise NotCuttable("it was not asked for")
            if "size" in message:
                return {"size": self._video.size(*message["size"])}, b""
            part = self._video.part(*message["part"])
            return {"offset": part.offset_seconds, "bytes": len(part.data)}, part.data
        except NotCuttable as error:
            return {"not_cuttable": str(error)[:_WHY]}, b""
        except ClipError as error:
            return {"error": to_wire(error)}, b""


def _tiny(form: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as output:
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def _rehearse() -> None:
    """Use everything once: afterwards no module can be loaded."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for form in ("mp4", "matroska", "mpegts", "avi"):
        data = _tiny(form)
        with suppress(NotCuttable):
            CuttableVideo(data).part(0.0, 1.0)
        with suppress(ClipError), container.Source(data) as source:
            source.seconds()
    with suppress(ClipError), container.Source(b"no video"):
        pass
    wire.frame({"ready": {}})


def main() -> None:
    """Get ready, and answer until the gateway hangs up."""
    parser = argparse.ArgumentParser(prog="python -m actionrec_gateway.jobs.cutter_process")
    for name in ("socket", "file", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _rehearse()
    connection = Connection(given.socket)
    memory = confine.address_space() + _MEMORY_BYTES
    defences = confine.confine_zygote(given.parent) | confine.confine_child(given.parent, memory, _CPU_SECONDS)
    answers = _Answers(given.file)
    connection.send({"ready": defences})
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the gateway has hung up
        while True:
            reply, data = answers.to(connection.receive())
            connection.send(reply)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(given.socket, rest) :]


if __name__ == "__main__":
    main()
