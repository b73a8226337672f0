"""Messages between a worker and its decoding children: a length, then JSON; a request is followed by the
video's bytes.

JSON and not pickle: data of a process that has parsed a stranger's bytes must not run code here.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

_LENGTH = struct.Struct("<I")
_LARGEST = 65_536
"""The most bytes of a message; the longest honest ones have a few hundred."""


class BrokenPeerError(ConnectionError):
    """The other end is gone, or sends something that it must not."""


def frame(message: dict[str, Any]) -> bytes:
    """The bytes of a message, with its length in front."""
    text = json.dumps(message, allow_nan=False).encode()
    return _LENGTH.pack(len(text)) + text


def parse(text: bytes) -> dict[str, Any]:
    """The inverse of `frame`, without the length.

    Raises:
        BrokenPeerError: the text is no JSON object, or holds NaN or an infinity.
    """

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        message = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        # The text of this error could hold bytes of the peer.
        raise BrokenPeerError("not a message") from error
    if not isinstance(message, dict):
        raise BrokenPeerError("not a message: no object")
    return message


def length_of(head: bytes) -> int:
    """The length of the message after these four bytes.

    Raises:
        BrokenPeerError: it is longer than any message may be.
    """
    (length,) = _LENGTH.unpack(head)
    if length > _LARGEST:
        raise BrokenPeerError(f"a message of {length} bytes")
    return int(length)


class Channel:
    """The worker's end of the socket: every wait has a deadline, in seconds of `time.monotonic`."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()

    def send(self, message: dict[str, Any], payload: bytes = b"", *, deadline: float) -> None:
        """Send a message and the bytes that go with it.

        Raises:
            TimeoutError: the peer does not take it.
            ConnectionError: the peer is gone.
        """
        self._until(deadline)
        self._socket.sendall(frame(message))
        if payload:
            self._until(deadline)
            self._socket.sendall(payload)

    def receive(self, deadline: float) -> dict[str, Any]:
        """Return the next message. After a TimeoutError it may be called again, and nothing is lost.

        Raises:
            TimeoutError: no message came in time.
            ConnectionError: the peer is gone, or has sent something that is no message.
        """
        self._fill(_LENGTH.size, deadline)
        end = _LENGTH.size + length_of(bytes(self._received[: _LENGTH.size]))
        self._fill(end, deadline)
        text = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return parse(text)

    def _fill(self, count: int, deadline: float) -> None:
        while len(self._received) < count:
            self._until(deadline)
            part = self._socket.recv(count - len(self._received))
            if not part:
                raise BrokenPeerError("closed")
            self._received += part

    def _until(self, deadline: float) -> None:
        # Not 0: that would not even read what has arrived already.
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
