"""The process that reads one stream, seen from the gateway; see `reader_process`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sandbox import wire
from actionrec.sandbox.stderr import safe_lines
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ..confined import ENVIRONMENT

logger = logging.getLogger(__name__)

_START_SECONDS = 60.0
_MOST_EDGE = 1024

Text = Annotated[str, AfterValidator(lambda text: " ".join(safe_lines(text)))]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Edge = Annotated[int, Field(ge=1, le=_MOST_EDGE)]


class Opened(BaseModel, strict=True):
    """The first frame came."""

    width: Annotated[int, Field(ge=1, le=1 << 16)]
    height: Annotated[int, Field(ge=1, le=1 << 16)]


class Ended(BaseModel, strict=True):
    """The stream has ended."""

    finite: bool
    """Whether it had an end from the start, as a file has."""
    reason: Text = ""
    """Why it broke; empty where it did not."""


class About(BaseModel, strict=True):
    """What is known of a window."""

    start_seconds: Seconds
    end_seconds: Seconds
    arrived: Seconds
    clip_bytes: Annotated[int, Field(ge=1, le=DEFAULT_LIMITS.body_bytes)]
    picture: Annotated[list[Edge], Field(min_length=2, max_length=2)]


class _Message(BaseModel, strict=True):
    ready: dict[str, str] | None = None
    opened: Opened | None = None
    window: About | None = None
    gap: Text | None = None
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the stream."""

    about: About
    clip: bytes
    """A video file with the frames that the model eats."""
    picture: npt.NDArray[np.uint8]
    """uint8 [H, W, 3], RGB: the newest frame."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Between the window before and the next one something is missing."""

    reason: str


Event = Opened | Window | Gap | Ended


class ReaderProcess:
    """The process of one stream; `close` it.

    Args:
        process: that runs.
        messages: from it.
        video: to it.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, messages: asyncio.StreamReader, video: asyncio.StreamWriter
    ) -> None:
        self._process, self._messages, self._video = process, messages, video

    @classmethod
    async def start(cls, shown: str, spec: dict[str, Any], interval_seconds: float) -> ReaderProcess:
        """Start one; it is ready when this returns.

        Args:
            shown: the stream's address, as people may see it.
            spec: of the model, as its archive describes it.
            interval_seconds: from one window to the next.

        Raises:
            BrokenPeerError: it did not start.
        """
        ours, its = socket.socketpair()
        order = {"shown": shown, "spec": spec, "interval_seconds": interval_seconds}
        command = [sys.executable, "-m", f"{__package__}.reader_process", "--socket", str(its.fileno())]
        with its:
            process = await asyncio.create_subprocess_exec(
                *command,
                *("--parent", str(os.getpid()), "--order", json.dumps(order)),
                pass_fds=(its.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=ENVIRONMENT,
            )
        messages, video = await asyncio.open_connection(sock=ours)
        reader = cls(process, messages, video)
        try:
            async with asyncio.timeout(_START_SECONDS):
                defences = (await reader._message()).ready or {}
        except BaseException:
            await reader.close()
            raise
        if defences.get("seccomp") != "on":
            logger.warning("A stream is read without all defences: %s", defences)
        return reader

    async def feed(self, chunks: AsyncIterator[bytes]) -> None:
        """Give it the stream's bytes, no faster than it takes them."""
        with suppress(ConnectionError):
            async for chunk in chunks:
                self._video.write(chunk)
                await self._video.drain()
            self._video.write_eof()

    async def events(self) -> AsyncIterator[Event]:
        """What it finds, until it has ended.

        Raises:
            BrokenPeerError: it broke off, or says what it must not.
        """
        while True:
            message = await self._message()
            if message.opened:
                yield message.opened
            elif message.gap is not None:
                yield Gap(message.gap)
            elif message.window:
                yield await self._window(message.window)
            elif message.ended:
                yield message.ended
                return
            else:
                raise wire.BrokenPeerError("a message of another kind")

    async def close(self) -> None:
        """End it."""
        self._video.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _message(self) -> _Message:
        try:
            text = await self._messages.readexactly(wire.length_of(await self._messages.readexactly(4)))
            return _Message.model_validate(wire.parse(text))
        except (EOFError, ConnectionError, ValidationError) as error:
            raise wire.BrokenPeerError("the process that read the stream broke off") from error

    async def _window(self, about: About) -> Window:
        height, width = about.picture
        try:
            clip = await self._messages.readexactly(about.clip_bytes)
            pixels = await self._messages.readexactly(height * width * 3)
        except EOFError as error:
            raise wire.BrokenPeerError("the process that read the stream broke off") from error
        return Window(about, clip, np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
