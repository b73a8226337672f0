"""Watches one stream for one client: fetch, read, ask the engine about the newest window, tell.

                 reader process
    fetcher --bytes--> | --windows--> newest only --clip--> engine --reply--> events

Where the engine is slower than the interval, windows are left out and counted, so that no answer is old. A
stream that breaks off is asked for again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actionrec.errors import ClipError
from actionrec.sandbox.wire import BrokenPeerError

from ..engine import Engine
from ..errors import error_answer
from ..fetch import Fetcher
from ..fetch.place import Place
from ..jpeg import jpeg
from .errors import no_stream
from .reader import Ended, Event, Gap, Opened, ReaderProcess, Window
from .video import video

logger = logging.getLogger(__name__)

MOST_SECONDS = 12 * 3600.0
"""After which a stream is over for whoever watches it: he may ask for it again."""
_OPEN_SECONDS = 30.0
_LOOK_SECONDS = 1.0
"""Between two looks at whether the gateway ends."""
_QUIET_SECONDS = 10.0
"""After which a comment shows that the connection is alive."""
_GIVE_UP_SECONDS = 60.0
"""Without a frame, before a stream that broke is given up."""
_LONGEST_WAIT_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is watched, and how."""

    place: Place
    model: str
    spec: dict[str, Any]
    """Of the model, as its archive describes it."""
    interval_seconds: float
    top_k: int
    client: str
    request_id: str


class _Inbox:
    """Events in their order, but of windows the newest alone."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=100)
        self._newest: Window | None = None
        self._changed = asyncio.Event()
        self.skipped = 0

    def put(self, event: Event) -> None:
        if isinstance(event, Window):
            self.skipped += self._newest is not None
            self._newest = event
        else:
            self._events.append(event)
        self._changed.set()

    def forget(self) -> None:
        """What came from a connection that is closed now."""
        self._events.clear()
        self._newest = None
        self._changed.clear()

    async def take(self, timeout_seconds: float) -> Event | None:
        """The next one; None: the time is up."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)
        # The window that came before the end goes before it.
        last = len(self._events) == 1 and isinstance(self._events[0], Ended)
        if self._events and not (last and self._newest):
            event: Event | None = self._events.popleft()
        else:
            event, self._newest = self._newest, None
        if not self._events and self._newest is None:
            self._changed.clear()
        return event


class _Connection:
    """One connection to the stream, and the process that reads it; `close` it."""

    def __init__(self, reader: ReaderProcess, inbox: _Inbox, chunks: AsyncIterator[bytes]) -> None:
        self._reader, self._inbox = reader, inbox
        self._tasks = [asyncio.create_task(self._feed(chunks)), asyncio.create_task(self._receive())]
        self.error: ClipError | None = None
        """Why its bytes do not come."""

    async def _feed(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async with aclosing(chunks) as closing:  # type: ignore[type-var]  # a generator
                await self._reader.feed(closing)
        except ClipError as error:
            self.error = error
            self._inbox.put(Ended(finite=False, reason=error.message))
        except Exception:
            logger.exception("A stream's bytes cannot be passed on")
            self._inbox.put(Ended(finite=False, reason="The server's log says more."))

    async def _receive(self) -> None:
        try:
            async for event in self._reader.events():
                self._inbox.put(event)
        except BrokenPeerError as error:
            self._inbox.put(Ended(finite=False, reason=f"{str(error).capitalize()}."))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.close()


class Watching:
    """One client's look at one stream; `close` it.

    Args:
        order: what is watched.
        engine: that answers.
        fetcher: that may reach it.
        ends: set when the gateway ends.
    """

    def __init__(self, order: Order, engine: Engine, fetcher: Fetcher, ends: asyncio.Event) -> None:
        self._order, self._engine, self._fetcher, self._ends = order, engine, fetcher, ends
        self._inbox = _Inbox()
        self._connection: _Connection | None = None
        self._first: Event | None = None
        self._number = 0

    async def open(self) -> None:
        """Connect, and wait for the first frame.

        Raises:
            ClipError: the address is not answered, or has no stream that can be watched.
        """
        try:
            await self._connect()
            self._first = await self._inbox.take(_OPEN_SECONDS)
            error = self._connection.error if self._connection else None
            if isinstance(self._first, Ended):
                raise error or no_stream(self._order.place, self._first.reason or "it has no frame")
            if self._first is None:
                raise no_stream(self._order.place, f"no frame came in {_OPEN_SECONDS:g} s")
        except BaseException:
            await self.close()
            raise

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events until the stream, the gateway or the time has ended."""
        began = last = said = time.monotonic()
        attempt, event = 0, self._first
        while not self._ends.is_set():
            if time.monotonic() - began > MOST_SECONDS:
                yield _sent("ended", {"reason": f"{MOST_SECONDS / 3600:g} hours are over."})
                return
            if event is not None:
                said = time.monotonic()
            elif time.monotonic() - said > _QUIET_SECONDS:
                said = time.monotonic()
                yield b": it goes on\n\n"
            if isinstance(event, Window):
                attempt, last = 0, time.monotonic()
                yield await self._answered(event)
            elif isinstance(event, Opened):
                yield _sent("opened", event.model_dump())
            elif isinstance(event, Gap):
                yield _sent("gap", {"reason": event.reason})
            elif isinstance(event, Ended):
                if event.finite or time.monotonic() - last > _GIVE_UP_SECONDS:
                    yield _sent("ended", {"reason": event.reason})
                    return
                if attempt == 0:
                    yield _sent("lost", {"reason": event.reason or "The stream ended."})
                attempt += 1
                await self._again(attempt)
            event = await self._inbox.take(_LOOK_SECONDS)

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self) -> None:
        order = self._order
        try:
            reader = await ReaderProcess.start(order.place.shown, order.spec, order.interval_seconds)
        except (BrokenPeerError, OSError, TimeoutError) as error:
            logger.exception("No process can be started that reads a stream")
            hint = "The server's log says more."
            raise ClipError("UNAVAILABLE", 503, "The stream cannot be read now.", hint) from error
        chunks = video(self._fetcher, order.place, MOST_SECONDS, int(order.spec["short_side"]))
        self._connection = _Connection(reader, self._inbox, chunks)

    async def _again(self, attempt: int) -> None:
        """Connect again, after a while."""
        await self.close()
        self._inbox.forget()
        wait = min(_LONGEST_WAIT_SECONDS, 0.5 * 2 ** (attempt - 1))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ends.wait(), wait)
        try:
            await self._connect()
        except ClipError as error:
            self._inbox.put(Ended(finite=False, reason=error.message))

    async def _answered(self, window: Window) -> bytes:
        """The event for the engine's answer to a window."""
        self._number += 1
        order, about = self._order, window.about
        request_id = f"{order.request_id}-{self._number}"
        options = {"top_k": order.top_k}
        try:
            answer = await self._engine.predict(
                order.model, window.clip, options, request_id=request_id, client=order.client
            )
        except ClipError as error:
            answer = error_answer(error, request_id)
        reply = json.loads(answer.body)
        shared = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "start_seconds": round(about.start_seconds, 3),
            "end_seconds": round(about.end_seconds, 3),
            "latency_ms": round(1e3 * (time.monotonic() - about.arrived), 1),
            "skipped": self._inbox.skipped,
        }
        if answer.status != 200:
            return _sent("error", {**shared, "error": reply["error"]})
        picture = base64.b64encode(jpeg(window.picture)).decode("ascii")
        kept = {name: reply[name] for name in ("predictions", "timings_ms", "warnings")}
        return _sent("result", {**shared, **kept, "picture": picture})


def _sent(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
