"""`decode.windows` in child processes: a hostile clip costs its sender an answer, and nobody else anything.

    windows(...) -> takes a child -> sends the bytes -> copies view after view -> gives the child back
                    keeper: has the zygote fork the next children before they are needed

A child decodes for one client only, so it can give away nothing of another's. A child that crashes, hangs or
exceeds a limit is killed, and only its request fails. `confine` lists what a child may do beyond decoding
(nothing), `wire` has the messages, and `schema` checks them.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from ..video.decode import Decoded
from ..video.window_reader import new_room
from .child_process import Child
from .failures import CRASH_HINT, FailureRecord
from .keeper import Keeper
from .patience import NotWantedError, Patience
from .schema import Answers
from .slot import Memory
from .wire import BrokenPeerError
from .zygote_process import ZYGOTE_MODULE, ending

logger = logging.getLogger(__name__)

_TAKE_SECONDS = 5.0
"""Seconds within which a child must be free, and seconds within which it must have taken a request's bytes."""
_TRIES = 3
"""Children that a request is given to, if they are lost through no fault of its video."""
_SLOW_OPEN_SECONDS = 0.05
"""Seconds of CPU time for opening, normally milliseconds; after that the child lets all others go first."""
_SLOW_WINDOW_SECONDS = 0.1
"""The same for decoding a window. A window of 1080p takes longer: smaller clips go first."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has a video decoded, and how it is told."""

    client: str = ""
    """Name of the client; one with a name may get a child that has decoded for it before. Default: not
    known."""
    wanted: Callable[[], bool] = lambda: True
    """Returns whether anybody still waits; where not, decoding ends within a moment."""
    slow: Callable[[], object] = bool
    """Called when decoding takes much longer than an ordinary clip's, and lets others go first from then on."""
    last: bool = False
    """Whether decoding lets others go first from its beginning."""


NOBODY = Caller()


class _LostError(Exception):
    """A child is gone, through no fault of its video."""


class Sandbox:
    """Child processes that decode. Thread-safe; close it, or use it in a ``with`` statement.

    Args:
        spec: what the model eats; a child's shared memory holds one window of it.
        limits: what a child may use.
        size: fresh children to have ready; default: one a core.
        module: what the zygote runs.
        require: refuse to start unless all of `confine.REQUIRED` hold.
        memory: gives the arrays of frames that are handed out.

    Raises:
        RuntimeError: no child can be started, or a required defence is missing.
    """

    def __init__(
        self,
        spec: ClipSpec,
        limits: Limits,
        size: int | None = None,
        module: str = ZYGOTE_MODULE,
        *,
        require: bool = False,
        memory: Memory = new_room,
    ) -> None:
        self._memory = memory
        self._size = size or os.cpu_count() or 1
        self._failures = FailureRecord()
        window_bytes = spec.num_frames * spec.crop * spec.crop * 3 * np.dtype(np.int16).itemsize
        self._keeper = Keeper(self._size, module, window_bytes, limits, require=require)
        missing = {name: why for name, why in self.defences.items() if why != "on"}
        if missing:
            logger.warning("The decoding sandbox is without: %s", missing)

    @property
    def defences(self) -> dict[str, str]:
        """Defence -> ``on``, or the reason why it does not hold."""
        return self._keeper.defences

    @property
    def replaced(self) -> int:
        """How many children have died, or were killed before they had answered."""
        return self._keeper.lost

    def windows(
        self,
        data: bytes,
        spec: ClipSpec,
        selection: Selection,
        limits: Limits,
        caller: Caller = NOBODY,
    ) -> Iterator[Decoded]:
        """Like `decode.windows`, in a child.

        Args:
            data, spec, selection, limits: as for `decode.windows`.
            caller: who asks, and how it is told.

        Raises:
            ClipError: as `decode.windows`; DECODER_CRASHED, DECODE_TIMEOUT (422); DECODER_UNAVAILABLE (503).
            RuntimeError: decoding failed for an unknown reason; the child's traceback is in it.
        """
        self._failures.check(data)
        for _ in range(_TRIES):
            given = False
            try:
                for window in self._decoded(data, spec, selection, limits, caller):
                    given = True
                    yield window
                return
            except _LostError as error:
                logger.warning("%s", error)
                if given:
                    break
        raise _unavailable()

    def describe(self) -> dict[str, Any]:
        """The sandbox's part of the model's description."""
        return {"children": self._size, "replaced": self.replaced, "defences": dict(self.defences)}

    def pids(self) -> list[int]:
        """Process ids of the living children."""
        return self._keeper.pids()

    def close(self) -> None:
        """End all children. Requests that are being decoded fail with DECODER_UNAVAILABLE."""
        self._keeper.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoded(
        self,
        data: bytes,
        spec: ClipSpec,
        selection: Selection,
        limits: Limits,
        caller: Caller,
    ) -> Iterator[Decoded]:
        """The views from one child.

        Raises:
            ClipError, RuntimeError: as in `windows`.
            _LostError: the child is gone, through no fault of the video.
        """
        child = self._keeper.take(caller.client, _TAKE_SECONDS)
        if child is None:
            raise _unavailable()
        well = asked = False
        try:
            if caller.last:
                child.step_back()
            self._begin(child, data, spec, selection, limits)
            answers = Answers(spec, selection, limits)
            patience = Patience(child, limits.request_seconds, caller.wanted, caller.slow)
            message = patience.receive(limits.open_seconds, _SLOW_OPEN_SECONDS)
            if "opened" in message:
                message = patience.receive(limits.decode_seconds, _SLOW_WINDOW_SECONDS)
            while "window" in message:
                window = answers.window(message["window"], partial(child.slot.frames, memory=self._memory))
                asked = True  # the caller may stop here
                yield window
                asked = False
                child.send({"next": True}, deadline=time.monotonic() + _TAKE_SECONDS)
                message = patience.receive(limits.decode_seconds, _SLOW_WINDOW_SECONDS)
            if "end" not in message:
                error = answers.failure(message)
                well = True
                raise error
            answers.check_end()
            well = True
        except NotWantedError:
            return
        except TimeoutError as error:
            timeout = _timeout(str(error))
            self._failures.add(data, timeout)
            raise timeout from None
        except ConnectionError as error:
            raise self._crashed(child, data, error) from error
        finally:
            if asked:
                well = self._dismiss(child)
            self._keeper.end(child, caller.client, lost=not well)

    @staticmethod
    def _dismiss(child: Child) -> bool:
        """Tell a child that no more views are wanted; returns whether that reached it."""
        try:
            child.send({"next": False}, deadline=time.monotonic() + _TAKE_SECONDS)
        except (TimeoutError, ConnectionError):
            return False
        return True

    def _begin(self, child: Child, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> None:
        """Give a child its request. A child that is lost before it starts was not lost through these bytes."""
        request = {
            "spec": spec.to_dict(),
            "selection": asdict(selection),
            "limits": limits.to_dict(),
            "bytes": len(data),
        }
        try:
            deadline = time.monotonic() + _TAKE_SECONDS
            child.send(request, data, deadline=deadline)
            if "started" not in child.receive(deadline):
                raise BrokenPeerError("not started")
        except (TimeoutError, ConnectionError) as error:
            raise _LostError(f"Decoding child {child.pid} was lost before it began: {error!r}") from error

    def _crashed(self, child: Child, data: bytes, error: ConnectionError) -> ClipError | _LostError:
        """The error for a child that ended in the middle of its work."""
        if self._keeper.closed:
            return _unavailable()
        status = child.how_it_ended()
        if status == -signal.SIGXCPU:
            timeout = _timeout("it used up its CPU time")
            self._failures.add(data, timeout)
            return timeout
        # A child can neither kill itself nor be killed by its limits: somebody else did it, or the machine was
        # out of memory. A child also ends with its zygote.
        if status == -signal.SIGKILL or (status is None and not child.zygote.well()):
            return _LostError(f"Decoding child {child.pid} was killed from outside")
        how = "broke off" if status is None else ending(status)
        logger.warning("Decoding child %d %s (%s) on a video of %d bytes", child.pid, how, error, len(data))
        for line in child.stderr.lines():
            logger.warning("Decoding child %d: %s", child.pid, line)
        crash = ClipError(
            "DECODER_CRASHED",
            422,
            f"The video of {len(data):,} bytes ended the process that decoded it ({how}).",
            CRASH_HINT,
        )
        self._failures.add(data, crash)
        return crash


def _timeout(why: str) -> ClipError:
    return ClipError(
        "DECODE_TIMEOUT",
        422,
        f"Decoding was stopped: {why}.",
        "Send a smaller or shorter video: ffmpeg -i input -vf scale=-2:480 -c:v libx264 output.mp4",
    )


def _unavailable() -> ClipError:
    return ClipError(
        "DECODER_UNAVAILABLE", 503, "No decoder is free or can be started.", "Try again in some seconds."
    )
