"""``python -m actionrec.sandbox.child``: one decoding child. `sandbox` starts it and is all that it talks to.

It imports PyAV, OpenCV and numpy (no torch), gives up what it does not need, then decodes one video after the
other, with a second thread that converts frames. The frames of a window go into shared memory, everything else
over the socket:

    worker                               child
      {spec, selection, limits, bytes}, the bytes ->
                                      <- {started}
                                      <- {window: ...}     frames lie in the shared memory
      {next: true} ->                                      they have been copied; {next: false}: no more, please
                                      <- {end}, or {error: ...}, or {internal: ...} in the place of a window
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import io
import mmap
import os
import pkgutil
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

import av
import cv2
import numpy as np

from ..decode import Decoded, Decoder, windows
from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from . import confine, wire


class _Connection:
    """The child's end: blocking, by plain read and write, which is all that it keeps the right to."""

    def __init__(self, descriptor: int) -> None:
        self._file = io.BufferedReader(io.FileIO(descriptor, "rb"), buffer_size=1 << 16)
        self._descriptor = descriptor

    def receive(self) -> dict[str, Any]:
        """Raises EOFError when the worker has hung up."""
        return wire.parse(self.read(wire.length_of(self.read(4))))

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def send(self, message: dict[str, Any]) -> None:
        data = memoryview(wire.frame(message))
        while data:
            data = data[os.write(self._descriptor, data) :]


def described(clip: Decoded) -> dict[str, Any]:
    """A window without its frames, as it travels."""
    values = {f.name: getattr(clip, f.name) for f in fields(clip) if f.name not in ("frames", "warnings")}
    return {**values, "warnings": [warning.to_dict() for warning in clip.warnings]}


def _serve(connection: _Connection, memory: mmap.mmap, decoder: Decoder) -> None:
    """Answer requests until the worker hangs up."""
    while True:
        request = connection.receive()
        data = connection.read(request["bytes"])
        connection.send({"started": True})
        try:
            found = decoder(
                data,
                ClipSpec.from_dict(request["spec"]),
                Selection(**request["selection"]),
                Limits.from_dict(request["limits"]),
            )
            if not _answer(connection, memory, found):
                continue
            message: dict[str, Any] = {"end": True}
        except ClipError as error:
            message = {"error": error.to_dict()}
        except EOFError:
            raise
        except Exception:
            message = {"internal": traceback.format_exc()[-4000:]}
        connection.send(message)


def _answer(connection: _Connection, memory: mmap.mmap, found: Iterator[Decoded]) -> bool:
    """Send windows for as long as they are wanted; says whether all were."""
    for clip in found:
        slot = np.frombuffer(memory, dtype=np.int16, count=clip.frames.size)
        np.copyto(slot.reshape(clip.frames.shape), clip.frames)
        connection.send({"window": described(clip)})
        if not connection.receive()["next"]:
            return False
    return True


def _rehearse() -> None:
    """Load what would be loaded at first use, while files can still be read: by importing it, and by use."""
    # PyAV imports the modules of a kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as output:
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    spec = ClipSpec(short_side=32, crop=32)
    importlib.import_module("numpy.ma")  # np.unique's, at its first use
    for data, selection in (
        (file.getvalue(), Selection()),
        (file.getvalue(), Selection(stride_seconds=0.1)),
        (file.getvalue()[:200], Selection()),
        (b"no video", Selection()),
    ):
        try:
            for clip in windows(data, spec, selection, Limits()):
                wire.frame(described(clip))
        except ClipError as error:
            wire.frame(error.to_dict())
    try:
        raise ValueError("rehearsed")
    except ValueError:
        traceback.format_exc()


def main(decoder: Callable[..., Iterator[Decoded]] = windows) -> None:
    """Get ready, say which defences hold, and serve.

    Args:
        decoder: takes what `windows` does.
    """
    parser = argparse.ArgumentParser(prog="python -m actionrec.sandbox.child")
    for name in ("socket", "memory", "memory-bytes", "parent", "address-space", "cpu-seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    # Until then the worker is the only one that could send a signal; a terminal's Ctrl-C is not for a child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.die_with(given.parent)
    faulthandler.enable()
    cv2.setNumThreads(1)
    memory = mmap.mmap(given.memory, given.memory_bytes)
    os.close(given.memory)
    connection = _Connection(given.socket)
    _rehearse()
    thread = ThreadPoolExecutor(1)
    defences = confine.confine(
        given.parent, given.address_space, given.cpu_seconds, lambda: thread.submit(bool).result()
    )
    connection.send({"ready": defences})
    try:
        _serve(connection, memory, partial(decoder, thread=thread))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the worker has hung up


if __name__ == "__main__":
    main()
