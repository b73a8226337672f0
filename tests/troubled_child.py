"""A decoding child for tests: it crashes, hangs, lies or tries to break out where a video's bytes say so.

It is the real child but for the decoder. A served archive does not contain it, and cannot be told to run it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.sandbox import child as sandbox_child
from actionrec.sandbox import zygote
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, windows
from actionrec.video.window_reader import Room


def _window(spec: ClipSpec, number: int = 0) -> Decoded:
    frames = np.full((spec.num_frames, spec.crop, spec.crop, 3), number, dtype=np.int16)
    times = (0.0,) * spec.num_frames
    return Decoded(frames, 0.0, 1.0, number, 30.0, 64, 48, window=number, frame_seconds=times)


def _break(way: str) -> None:
    (out,) = _sockets
    if way == "segv":
        ctypes.string_at(0)
    elif way == "abort":
        os.abort()
    elif way == "exit":
        os._exit(3)
    elif way == "hang":
        while True:
            pass
    elif way == "garbage":
        os.write(out, b"\x08\x00\x00\x00not JSON")
    elif way == "huge":
        os.write(out, b"\xff\xff\xff\xff")
    elif way == "nothing":
        os.write(out, b"\x02\x00\x00\x00{}")


_sockets: list[int] = []
"""The descriptor that the child talks on."""


def _ptrace(parent: int) -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(16, parent, 0, 0) < 0:  # PTRACE_ATTACH
        raise PermissionError


_PARENT = os.getppid()
_DEEDS: dict[str, Callable[[], object]] = {
    "open": lambda: Path("/etc/hostname").read_text(),
    "listdir": lambda: list(Path("/").iterdir()),
    "socket": lambda: socket.socket(),
    "fork": lambda: os.fork(),
    "kill": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "thread": lambda: threading.Thread(target=time.time).start(),
    "memory": lambda: np.ones(1 << 30, dtype=np.float64),
    "ptrace": lambda: _ptrace(_PARENT),
}


def _attempt(deed: str) -> None:
    """Raises where it was *not* refused."""
    try:
        _DEEDS[deed]()
    except (OSError, RuntimeError, MemoryError):
        return
    raise AssertionError(f"{deed} was possible")


def troubled_windows(
    data: bytes,
    spec: ClipSpec,
    selection: Selection,
    limits: Limits,
    thread: Executor,
    opened: Callable[[], object],
    room: Room,
) -> Iterator[Decoded]:
    """In the place of `decode.windows`."""
    if data.startswith(b"BREAK "):
        _break(data[6:].decode())
    elif data.startswith(b"OPEN "):
        opened()
        _break(data[5:].decode())
    elif data.startswith(b"SAY "):
        opened()
        for said in data[4:].split(b"\n"):
            os.write(_sockets[0], len(said).to_bytes(4, "little") + said)
        time.sleep(60)
    elif data.startswith(b"STDERR "):
        for _ in range(1000):
            try:
                os.write(2, data[7:])
            except BlockingIOError:
                break
        os.abort()
    elif data.startswith(b"REFUSED? "):
        _attempt(data[9:].decode())
        thread.submit(_attempt, data[9:].decode()).result()
        yield _window(spec)
    elif data.startswith(b"MANY"):
        for number in range(1000):
            time.sleep(0.01)
            yield _window(spec, number)
    else:
        yield from windows(data, spec, selection, limits, thread, opened, room)


class _Connection(sandbox_child.Connection):
    def __init__(self, descriptor: int) -> None:
        _sockets.append(descriptor)
        super().__init__(descriptor)


if __name__ == "__main__":
    sandbox_child.Connection = _Connection  # type: ignore[misc]
    zygote.main(troubled_windows)
