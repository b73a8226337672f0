"""`decode.windows` in child processes: a hostile clip costs its sender an answer, and nobody else anything.

    windows(...) -> takes an idle child -> sends the bytes -> copies window after window -> puts it back
                    keeper thread: keeps one child more than can be busy, so that none is ever waited for

A child that crashes, hangs or overruns its limits is killed and costs one request, the one that it was working
on. What a child may do beyond decoding, which is nothing, stands in `confine`; how it is spoken to in `wire`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ..decode import Decoded
from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from .crashes import CRASH_HINT, CrashRecord
from .process import CHILD_MODULE, Child, decoded_from, error_from
from .wire import BrokenPeerError

logger = logging.getLogger(__name__)

_SPARE = 1
"""Children beyond those that can be busy at once: one takes over from a dead one without an import."""
_CHECK_SECONDS = 1.0
"""How often idle children are looked at."""
_START_SECONDS = 120.0
"""Until a child must be ready: a third of a second on an idle machine."""
_TAKE_SECONDS = 5.0
"""Until a child must have taken a request's bytes; then another one is tried."""
_TRIES = 3
"""Children that a request is given to, where they are lost before they have begun on it."""
_LIFE_SECONDS = 600.0
"""Of work, then a child is replaced by a fresh one."""
_RETRY_SECONDS = 5.0
"""Until the keeper tries again after children that could not be started."""


class Sandbox:
    """Child processes that decode. Thread-safe; close it, or use it in a ``with`` statement.

    Args:
        spec: what the model eats; one window of it is what the children's shared memory holds.
        limits: memory that a child may use.
        size: children that can be busy at once.
        module: what the children run.

    Raises:
        RuntimeError: no child can be started.
    """

    def __init__(
        self, spec: ClipSpec, limits: Limits, size: int | None = None, module: str = CHILD_MODULE
    ) -> None:
        self._size = size or os.cpu_count() or 1
        self._limits = limits
        self._module = module
        self._window_bytes = spec.num_frames * spec.crop * spec.crop * 3 * np.dtype(np.int16).itemsize
        self._crashes = CrashRecord()
        self._changed = threading.Condition()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._dead: list[Child] = []
        self._closed = False
        self._problem = ""
        self.defences: dict[str, str] = {}
        """Defence -> ``on``, or why it could not be had; of the last child."""
        self.replaced = 0
        """Children that were lost or killed so far."""
        # The kernel ends a child with the *thread* that started it, so they are all started by this one.
        self._keeper = threading.Thread(target=self._keep, name="sandbox", daemon=True)
        self._keeper.start()
        with self._changed:
            self._changed.wait_for(lambda: len(self._idle) >= self._size or self._problem, _START_SECONDS)
            if len(self._idle) < self._size:
                problem = self._problem or f"they are not ready after {_START_SECONDS:g} s"
        if len(self._idle) < self._size:
            self.close()
            raise RuntimeError(f"Decoding children cannot be started: {problem}")
        missing = {name: why for name, why in self.defences.items() if why != "on"}
        if missing:
            logger.warning("The decoding sandbox is without: %s", missing)

    def windows(self, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> Iterator[Decoded]:
        """As `decode.windows`, in a child.

        Raises:
            ClipError: as `decode.windows`; DECODER_CRASHED, DECODE_TIMEOUT (422); DECODER_UNAVAILABLE (503).
            RuntimeError: decoding failed in a way that is not known; the child's traceback is in it.
        """
        self._crashes.check(data)
        child = self._begin(data, spec, selection, limits)
        shape = (spec.num_frames, spec.crop, spec.crop, 3)
        well, waiting = False, False
        left = limits.request_seconds
        try:
            while True:
                started = time.monotonic()
                message = child.receive(started + min(limits.decode_seconds, left))
                left -= time.monotonic() - started
                if "window" not in message:
                    break
                clip = decoded_from(message["window"], child.frames, shape)
                well, waiting = True, True
                yield clip
                well, waiting = False, False
                child.send({"next": True}, deadline=time.monotonic() + _TAKE_SECONDS)
            if "error" in message:
                error = error_from(message["error"])
                well = True
                raise error
            if "internal" in message:
                well = True
                raise RuntimeError(f"in a decoding child:\n{str(message['internal'])[:4000]}")
            if "end" not in message:
                raise BrokenPeerError("an unknown message")
            well = True
        except TimeoutError:
            raise _timeout(limits, left) from None
        except ConnectionError as error:
            raise self._crashed(child, data, limits) from error
        finally:
            self._put_back(child, well=well, waiting=waiting)

    def describe(self) -> dict[str, Any]:
        """What ``describe`` says of the sandbox."""
        return {
            "children": self._size,
            "spare": _SPARE,
            "replaced": self.replaced,
            "defences": dict(self.defences),
        }

    def pids(self) -> list[int]:
        """Process ids of the living children."""
        with self._changed:
            return [child.pid for child in (*self._idle, *self._busy)]

    def close(self) -> None:
        """End all children. Requests that are being decoded get DECODER_UNAVAILABLE."""
        with self._changed:
            self._closed = True
            for child in (*self._idle, *self._busy):
                child.kill()
            self._changed.notify_all()
        self._keeper.join(_START_SECONDS)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> Child:
        """A child that has begun on a request. One that is lost before cannot have been lost by these bytes."""
        request = {
            "spec": spec.to_dict(),
            "selection": asdict(selection),
            "limits": limits.to_dict(),
            "bytes": len(data),
        }
        for _ in range(_TRIES):
            child = self._take()
            try:
                deadline = time.monotonic() + _TAKE_SECONDS
                child.send(request, data, deadline=deadline)
                if "started" in child.receive(deadline):
                    return child
            except (TimeoutError, ConnectionError) as error:
                logger.warning("Decoding child %d was lost before it began: %r", child.pid, error)
            except BaseException:
                self._put_back(child, well=False)
                raise
            self._put_back(child, well=False)
        raise _unavailable()

    def _take(self) -> Child:
        deadline = time.monotonic() + _START_SECONDS
        with self._changed:
            while not self._closed and time.monotonic() < deadline:
                while self._idle:
                    child = self._idle.pop()
                    if child.well():
                        self._busy.add(child)
                        return child
                    self._bury(child)
                self._changed.wait(_CHECK_SECONDS)
        raise _unavailable()

    def _put_back(self, child: Child, *, well: bool, waiting: bool = False) -> None:
        """Give a child back after a request; one that is not well is ended, and another one started.

        Args:
            waiting: it has sent a window, and is to be told whether there shall be more.
        """
        if well and waiting:
            try:
                child.send({"next": False}, deadline=time.monotonic() + _TAKE_SECONDS)
            except (TimeoutError, ConnectionError):
                well = False
        with self._changed:
            self._busy.discard(child)
            if well and not self._closed and child.busy_seconds < _LIFE_SECONDS:
                self._idle.append(child)
            else:
                self._bury(child)
            self._changed.notify_all()

    def _bury(self, child: Child) -> None:
        """Kill a child; the keeper waits for its end and starts another. Call it with the lock held."""
        child.kill()
        self.replaced += 1
        self._dead.append(child)
        self._changed.notify_all()

    def _crashed(self, child: Child, data: bytes, limits: Limits) -> ClipError:
        if self._closed:
            return _unavailable()
        how = child.how_it_ended()
        logger.warning("Decoding child %d %s on a video of %d bytes", child.pid, how, len(data))
        if how == "used up its CPU time":
            return _timeout(limits, 0.0)
        self._crashes.add(data)
        return ClipError(
            "DECODER_CRASHED",
            422,
            f"The video of {len(data):,} bytes ended the process that decoded it ({how}).",
            CRASH_HINT,
        )

    def _keep(self) -> None:
        """Start children, look after idle ones, and wait for the end of killed ones."""
        while True:
            with self._changed:
                if self._closed:
                    break
                for child in [child for child in self._idle if not child.well()]:
                    logger.warning("Idle decoding child %d is gone or stopped; it is replaced", child.pid)
                    self._idle.remove(child)
                    self._bury(child)
                dead, self._dead = self._dead, []
                missing = self._size + _SPARE - len(self._idle) - len(self._busy)
            for child in dead:
                child.close()
            problem = self._start(missing)
            with self._changed:
                self._problem = problem
                self._changed.notify_all()
                self._changed.wait_for(self._has_work, _RETRY_SECONDS if problem else _CHECK_SECONDS)
        for child in (*self._idle, *self._busy, *self._dead):
            child.close()

    def _has_work(self) -> bool:
        return self._closed or (bool(self._dead) and not self._problem)

    def _start(self, count: int) -> str:
        """Start children side by side; what went wrong, or nothing."""
        problem, started = "", []
        for _ in range(count):
            try:
                started.append(Child(self._module, self._window_bytes, self._limits, 2 * _LIFE_SECONDS))
            except OSError as error:
                problem = str(error)
        for child in started:
            try:
                self.defences = child.wait_until_ready(time.monotonic() + _START_SECONDS)
            except (TimeoutError, ConnectionError):
                problem = f"a child {child.how_it_ended()} at its start; its own words are in the log"
                child.close()
                continue
            with self._changed:
                self._idle.append(child)
                self._changed.notify_all()
        if problem:
            logger.error("Decoding children cannot be started: %s", problem)
        return problem


def _timeout(limits: Limits, left: float) -> ClipError:
    spent = (
        f"a window took more than {limits.decode_seconds:g} s"
        if left >= limits.decode_seconds
        else f"its windows took more than {limits.request_seconds:g} s"
    )
    return ClipError(
        "DECODE_TIMEOUT",
        422,
        f"Decoding was stopped: {spent}.",
        "Send a smaller or shorter video: ffmpeg -i input -vf scale=-2:480 -c:v libx264 output.mp4",
    )


def _unavailable() -> ClipError:
    return ClipError(
        "DECODER_UNAVAILABLE", 503, "No decoder is free or can be started.", "Try again in some seconds."
    )
