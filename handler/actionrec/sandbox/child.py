"""One decoding child: it gives up the rights that it does not need, then decodes one client's videos.

The frames of a view go into shared memory, everything else over the socket:

    worker                               child
                                      <- {ready}            with the defences that hold
      {spec, selection, limits, bytes}, the bytes ->
                                      <- {started}
                                      <- {opened}
                                      <- {window: ...}      one view; its frames are in the shared memory
      {next: true} ->                                     the frames have been copied; {next: false}: stop
                                      <- {end}, or {error: ...} or {internal: ...} instead of a window
"""

from __future__ import annotations

import io
import mmap
import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from ..errors import ClipError
from ..limits import Limits
from ..problems import to_wire
from ..sampling import Selection
from ..spec import ClipSpec
from ..video.decode import Decoded
from ..video.resize import Pixels
from ..video.window_reader import new_room
from . import wire

_MADV_POPULATE_WRITE = 23
"""Linux 5.14: maps all pages at once, four times as fast as one by one at their first use."""
_INTERNAL_CHARACTERS = 4000


class Connection:
    """The child's end of the socket. Uses only blocking read and write, since the child may call nothing
    else.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = io.BufferedReader(io.FileIO(descriptor, "rb"), buffer_size=1 << 16)
        self.descriptor = descriptor

    def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            EOFError: the worker has hung up.
        """
        return wire.parse(self.read(wire.length_of(self.read(4))))

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes.

        Raises:
            EOFError: the worker has hung up.
        """
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def send(self, message: dict[str, Any]) -> None:
        """Send a whole message."""
        data = memoryview(wire.frame(message))
        while data:
            data = data[os.write(self.descriptor, data) :]


def described(view: Decoded) -> dict[str, Any]:
    """A view without its frames, as a message."""
    values = {f.name: getattr(view, f.name) for f in fields(view) if f.name not in ("frames", "warnings")}
    return {**values, "warnings": [to_wire(warning) for warning in view.warnings]}


def live(
    memory_bytes: int,
    give_up: Callable[[Callable[[], object]], dict[str, str]],
    warm_up: Callable[[Executor], object],
    decoder: Callable[..., Iterator[Decoded]],
    socket: int,
    memory: int,
) -> None:
    """Answer one request after the other, until the worker hangs up or kills this process.

    Args:
        memory_bytes: size of the shared memory.
        give_up: gives up rights. It gets a function that starts this process's threads, and calls it before the
            step that forbids new threads; it returns the defences that hold.
        warm_up: decodes something. A process does everything for the first time at half speed, so this happens
            before anybody waits.
        decoder: `decode.windows`, or a test's replacement.
        socket, memory: descriptors of the socket and of the shared memory.

    Raises:
        EOFError, BrokenPipeError, ConnectionResetError: the worker has hung up.
    """
    shared = mmap.mmap(memory, memory_bytes)
    os.close(memory)
    with suppress(OSError):
        shared.madvise(_MADV_POPULATE_WRITE)
    connection = Connection(socket)
    thread = ThreadPoolExecutor(1)
    defences = give_up(lambda: thread.submit(bool).result())
    warm_up(thread)
    connection.send({"ready": defences})
    while True:
        _serve(connection, shared, thread, decoder)


def _serve(
    connection: Connection, memory: mmap.mmap, thread: Executor, decoder: Callable[..., Iterator[Decoded]]
) -> None:
    """Answer one request."""
    request = connection.receive()
    data = connection.read(request["bytes"])
    connection.send({"started": True})
    try:
        found = decoder(
            data,
            ClipSpec.from_dict(request["spec"]),
            Selection(**request["selection"]),
            Limits.from_dict(request["limits"]),
            thread=thread,
            opened=partial(connection.send, {"opened": True}),
            room=partial(_room, memory),
        )
        if not _answer(connection, memory, found):
            return
        message: dict[str, Any] = {"end": True}
    except ClipError as error:
        message = {"error": to_wire(error)}
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception:
        message = {"internal": traceback.format_exc()[-_INTERNAL_CHARACTERS:]}
    connection.send(message)


def _room(memory: mmap.mmap, shape: tuple[int, ...]) -> Pixels:
    """An array for a window's frames: in the shared memory where the window has one crop, which saves a
    copy.
    """
    if shape[0] > 1:
        return new_room(shape)
    return np.frombuffer(memory, dtype=np.int16, count=int(np.prod(shape))).reshape(shape)


def _answer(connection: Connection, memory: mmap.mmap, found: Iterator[Decoded]) -> bool:
    """Send views until there are no more, or the worker wants no more; returns whether all were sent."""
    for view in found:
        slot = np.frombuffer(memory, dtype=np.int16, count=view.frames.size).reshape(view.frames.shape)
        if not np.may_share_memory(slot, view.frames):
            np.copyto(slot, view.frames)
        connection.send({"window": described(view)})
        if not connection.receive()["next"]:
            return False
    return True
