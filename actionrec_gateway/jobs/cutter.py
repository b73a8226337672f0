"""A stranger's video, cut into parts by a process of its own that can harm nothing; see `cutter_process`."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.problems import error_from_wire
from actionrec.sandbox import wire
from actionrec.sandbox.failures import CRASH_HINT

from actionrec_client.timeline.remux import NotCuttable, Part
from actionrec_client.timeline.sent import Cuttable

from ..confined import ENVIRONMENT

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 900.0
"""For one answer: an index takes as long as the file to be read."""
_CHUNK_BYTES = 1 << 20
_MOST_PART_BYTES = DEFAULT_LIMITS.body_bytes * 2
"""Of a part; a longer one is of no use. The index says about how long it will be."""


class CutterProcess:
    """The process of one video; see `actionrec_client.timeline.sent.Cutter`.

    Args:
        path: of the video.
    """

    def __init__(self, path: Path) -> None:
        ours, its = socket.socketpair()
        with path.open("rb") as file, its:
            command = [sys.executable, "-m", f"{__package__}.cutter_process"]
            command += [
                "--socket",
                str(its.fileno()),
                "--file",
                str(file.fileno()),
                "--parent",
                str(os.getpid()),
            ]
            self._process = subprocess.Popen(
                command,
                pass_fds=(its.fileno(), file.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
            )
        self._socket = ours
        try:
            self.defences = dict(self._receive().get("ready", {}))
        except BaseException:
            self.close()
            raise
        if self.defences.get("seccomp") != "on":
            logger.warning("Videos of jobs are opened without all defences: %s", self.defences)

    def cuttable(self, place: Path | bytes) -> Cuttable:  # noqa: ARG002  # it has one video
        """See `Cutter.cuttable`."""
        return _Index(self, _number(self._ask({"cuttable": True}), "seconds"))

    def seconds(self, data: bytes) -> float:  # noqa: ARG002
        """See `Cutter.seconds`."""
        return _number(self._ask({"length": True}), "seconds")

    def kill(self) -> None:
        """End it at once; whoever waits for an answer gets an error."""
        self._process.kill()

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def size(self, start_seconds: float, end_seconds: float) -> int:
        """Bytes of a part, about."""
        return int(_number(self._ask({"size": [start_seconds, end_seconds]}), "size"))

    def part(self, start_seconds: float, end_seconds: float) -> Part:
        """A part."""
        reply = self._ask({"part": [start_seconds, end_seconds]})
        count = int(_number(reply, "bytes"))
        if count > _MOST_PART_BYTES:
            raise _ended()
        return Part(self._read(count, time.monotonic() + _ANSWER_SECONDS), _number(reply, "offset"))

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._socket.sendall(wire.frame(message))
        except OSError as error:
            raise _ended() from error
        reply = self._receive()
        if (why := reply.get("not_cuttable")) is not None:
            raise NotCuttable(_plain(str(why)))
        if (found := reply.get("error")) is not None:
            try:
                raise error_from_wire(found)
            except ClipError:  # a ValueError too
                raise
            except ValueError as error:
                raise _ended() from error
        return reply

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _ANSWER_SECONDS
        try:
            return wire.parse(self._read(wire.length_of(self._read(4, deadline)), deadline))
        except wire.BrokenPeerError as error:
            raise _ended() from error

    def _read(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        try:
            while len(data) < count:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self._socket.recv(min(count - len(data), _CHUNK_BYTES))
                if not chunk:
                    raise _ended()
                data += chunk
        except OSError as error:
            raise _ended() from error
        return bytes(data)


class _Index:
    """See `actionrec_client.timeline.sent.Cuttable`."""

    def __init__(self, process: CutterProcess, seconds: float) -> None:
        self.seconds = seconds
        self.size = process.size
        self.part = process.part


def _number(reply: dict[str, Any], name: str) -> float:
    value = reply.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
        raise _ended()
    return value


def _plain(why: str) -> str:
    """A reason of FFmpeg's, or of whatever has taken the process over."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in why[:200])


def _ended() -> ClipError:
    return ClipError(
        "DECODER_CRASHED",
        422,
        "The process that read the video ended before it was done.",
        CRASH_HINT,
    )
