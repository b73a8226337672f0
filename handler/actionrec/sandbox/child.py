"""One decoding child: it gives up what it does not need, then decodes for one client, video after video.

The frames of a window go into shared memory, everything else over the socket:

    worker                               child
                                      <- {ready}            which defences hold
      {spec, selection, limits, bytes}, the bytes ->
                                      <- {started}
                                      <- {opened}
                                      <- {window: ...}      frames lie in the shared memory
      {next: true} ->                                       they have been copied; {next: false}: no more,
      please
                                      <- {end}, or {error: ...}, or {internal: ...} in the place of a window
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
"""Linux 5.14: maps all pages at once, which is four times as fast as one by one at their first use."""
_INTERNAL_CHARACTERS = 4000


class Connection:
    """The child's end: blocking, by plain read and write, which is all that it keeps the right to."""

    def __init__(self, descriptor: int) -> None:
        self._file = io.BufferedReader(io.FileIO(descriptor, "rb"), buffer_size=1 << 16)
        self.descriptor = descriptor

    def receive(self) -> dict[str, Any]:
        """The next message.

        Raises:
            EOFError: the worker has hung up.
        """
        return wire.parse(self.read(wire.length_of(self.read(4))))

    def read(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            EOFError: the worker has hung up.
        """
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, all of it."""
        data = memoryview(wire.frame(message))
        while data:
            data = data[os.write(self.descriptor, data) :]


def described(clip: Decoded) -> dict[str, Any]:
    """A window without its frames, as it travels."""
    values = {f.name: getattr(clip, f.name) for f in fields(clip) if f.name not in ("frames", "warnings")}
    return {**values, "warnings": [to_wire(warning) for warning in clip.warnings]}


def live(
    memory_bytes: int,
    give_up: Callable[[Callable[[], object]], dict[str, str]],
    warm_up: Callable[[Executor], object],
    decoder: Callable[..., Iterator[Decoded]],
    socket: int,
    memory: int,
) -> None:
    """A child's life: one request after the other, until the worker hangs up or kills it.

    Args:
        memory_bytes: of the shared memory.
        give_up: gives up what is not needed. It is given what starts the threads that are, and calls that
            before no thread can be started any more; it returns which defences hold.
        warm_up: decodes something. What a process does for the first time takes it twice as long: this is done
            before anybody waits.
        decoder: `decode.windows`, or what a test puts in its place.
        socket, memory: descriptors: of the socket, and of the shared memory.

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
    """One request."""
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
    """Room for a window's frames: in the shared memory, where it has one crop, so that they need not be
    copied.
    """
    if shape[0] > 1:
        return new_room(shape)
    return np.frombuffer(memory, dtype=np.int16, count=int(np.prod(shape))).reshape(shape)


def _answer(connection: Connection, memory: mmap.mmap, found: Iterator[Decoded]) -> bool:
    """Send windows for as long as they are wanted; says whether all were."""
    for clip in found:
        slot = np.frombuffer(memory, dtype=np.int16, count=clip.frames.size).reshape(clip.frames.shape)
        if not np.may_share_memory(slot, clip.frames):
            np.copyto(slot, clip.frames)
        connection.send({"window": described(clip)})
        if not connection.receive()["next"]:
            return False
    return True
