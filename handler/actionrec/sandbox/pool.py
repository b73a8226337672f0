"""`decode.windows` in child processes: a hostile clip costs its sender an answer, and nobody else anything.

    windows(...) -> takes a fresh child -> sends the bytes -> copies window after window -> the child ends
                    keeper thread: has the zygote fork the next ones, so that none is waited for

A child decodes for one request and never for another, so it has nothing of anybody else to give away. One that
crashes, hangs or overruns its limits is killed and costs that request. What a child may do beyond decoding,
which is nothing, stands in `confine`; how it is spoken to in `wire`; what of its words is believed in
`schema`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ..decode import Decoded
from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from .confine import REQUIRED
from .failures import CRASH_HINT, FailureRecord
from .patience import NotWantedError, Patience
from .process import ZYGOTE_MODULE, Child, Slot, Zygote, ending
from .schema import Answers
from .wire import BrokenPeerError

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
"""How often idle children and the zygote are looked at."""
_START_SECONDS = 120.0
"""Until the zygote must be ready: a third of a second on an idle machine."""
_FORK_SECONDS = 20.0
"""Until a child must be ready: milliseconds on an idle machine."""
_TAKE_SECONDS = 5.0
"""Until a child must be free, and until it must have taken a request's bytes."""
_TRIES = 3
"""Children that a request is given to, where they are lost without its fault."""
_RETRY_SECONDS = 1.0
"""Until the keeper tries again after children that could not be started."""
_UNREAPED_SECONDS = 60.0
"""Until a killed child whose end nobody can see, since something holds it, is given up."""
_SLOW_OPEN_SECONDS, _SLOW_OPEN_NICE = 0.25, 19
"""Opening takes milliseconds: what takes this long lets everybody else go first."""
_SLOW_WINDOW_SECONDS, _SLOW_WINDOW_NICE = 1.0, 10
"""A window of 4K takes this long: smaller clips go first."""


class _LostError(Exception):
    """A child is gone, and not by the fault of its video."""


class Sandbox:
    """Child processes that decode. Thread-safe; close it, or use it in a ``with`` statement.

    Args:
        spec: what the model eats; one window of it is what the children's shared memory holds.
        limits: what a child may use.
        size: fresh children to have ready; default: one a core.
        module: what the zygote runs.
        require: refuse to start where one of `confine.REQUIRED` cannot be had.

    Raises:
        RuntimeError: no child can be started, or not with the defences that are required.
    """

    def __init__(
        self,
        spec: ClipSpec,
        limits: Limits,
        size: int | None = None,
        module: str = ZYGOTE_MODULE,
        *,
        require: bool = False,
    ) -> None:
        self._size = size or os.cpu_count() or 1
        self._limits = limits
        self._module = module
        self._require = require
        self._window_bytes = spec.num_frames * spec.crop * spec.crop * 3 * np.dtype(np.int16).itemsize
        self._failures = FailureRecord()
        self._changed = threading.Condition()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._dead: list[tuple[Child, float]] = []
        self._slots: list[Slot] = []
        self._zygote: Zygote | None = None
        self._closed = False
        self._problem = ""
        self.defences: dict[str, str] = {}
        """Defence -> ``on``, or why it could not be had."""
        self.replaced = 0
        """Children that were lost, or killed before they had answered, so far."""
        # The kernel ends the zygote with the *thread* that started it, and its children with it: this one,
        # which therefore lives as long as the sandbox.
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

    def windows(
        self,
        data: bytes,
        spec: ClipSpec,
        selection: Selection,
        limits: Limits,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[Decoded]:
        """As `decode.windows`, in a child.

        Args:
            data, spec, selection, limits: as for `decode.windows`.
            wanted: whether anybody still waits for more; where not, it ends within a moment.

        Raises:
            ClipError: as `decode.windows`; DECODER_CRASHED, DECODE_TIMEOUT (422); DECODER_UNAVAILABLE (503).
            RuntimeError: decoding failed in a way that is not known; the child's traceback is in it.
        """
        self._failures.check(data)
        for _ in range(_TRIES):
            given = False
            try:
                for window in self._decoded(data, spec, selection, limits, wanted):
                    given = True
                    yield window
                return
            except _LostError as error:
                logger.warning("%s", error)
                if given:
                    break
        raise _unavailable()

    def describe(self) -> dict[str, Any]:
        """What ``describe`` says of the sandbox."""
        return {"children": self._size, "replaced": self.replaced, "defences": dict(self.defences)}

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

    def _decoded(
        self,
        data: bytes,
        spec: ClipSpec,
        selection: Selection,
        limits: Limits,
        wanted: Callable[[], bool],
    ) -> Iterator[Decoded]:
        """The windows from one child.

        Raises:
            ClipError, RuntimeError: as `windows`.
            _LostError: the child is gone, and the video is not to blame.
        """
        child = self._take()
        well = False
        try:
            self._begin(child, data, spec, selection, limits)
            answers = Answers(spec, selection, limits)
            patience = Patience(child, limits.request_seconds, wanted)
            message = patience.receive(limits.open_seconds, _SLOW_OPEN_SECONDS, _SLOW_OPEN_NICE)
            if "opened" in message:
                message = patience.receive(limits.decode_seconds, _SLOW_WINDOW_SECONDS, _SLOW_WINDOW_NICE)
            while "window" in message:
                window = answers.window(message["window"], child.slot.frames)
                well = True  # whoever has seen enough may leave here
                yield window
                well = False
                child.send({"next": True}, deadline=time.monotonic() + _TAKE_SECONDS)
                message = patience.receive(limits.decode_seconds, _SLOW_WINDOW_SECONDS, _SLOW_WINDOW_NICE)
            well = "end" in message
            if not well:
                error = answers.failure(message)
                well = True
                raise error
            answers.check_end()
        except NotWantedError:
            return
        except TimeoutError as error:
            timeout = _timeout(str(error))
            self._failures.add(data, timeout)
            raise timeout from None
        except ConnectionError as error:
            raise self._crashed(child, data, error) from error
        finally:
            self._end(child, well=well)

    def _begin(self, child: Child, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> None:
        """Have a child begin. One that is lost before cannot have been lost by these bytes."""
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

    def _take(self) -> Child:
        deadline = time.monotonic() + _TAKE_SECONDS
        with self._changed:
            while not self._closed and time.monotonic() < deadline:
                while self._idle:
                    # The oldest: it is ready for sure.
                    child = self._idle.pop(0)
                    self._changed.notify_all()
                    if child.well():
                        self._busy.add(child)
                        return child
                    self._bury(child, lost=True)
                self._changed.wait(_CHECK_SECONDS)
        raise _unavailable()

    def _end(self, child: Child, *, well: bool) -> None:
        """A child's request is over, and so is the child."""
        with self._changed:
            self._busy.discard(child)
            self._bury(child, lost=not well)

    def _bury(self, child: Child, *, lost: bool) -> None:
        """Kill a child; the keeper sees to its end. Call it with the lock held."""
        child.kill()
        self.replaced += lost
        self._dead.append((child, time.monotonic()))
        self._changed.notify_all()

    def _crashed(self, child: Child, data: bytes, error: ConnectionError) -> ClipError | _LostError:
        """What the end of a child in the middle of its work comes to."""
        if self._closed:
            return _unavailable()
        status = child.how_it_ended()
        if status == -signal.SIGXCPU:
            timeout = _timeout("it used up its CPU time")
            self._failures.add(data, timeout)
            return timeout
        # A child can neither kill itself nor be killed by its limits: someone else did, or the machine had no
        # more memory. It ends with its zygote, too.
        if status == -signal.SIGKILL or (status is None and not child.zygote.well()):
            return _LostError(f"Decoding child {child.pid} was killed from outside")
        how = "broke off" if status is None else ending(status)
        logger.warning("Decoding child %d %s (%s) on a video of %d bytes", child.pid, how, error, len(data))
        for line in child.words.said():
            logger.warning("Decoding child %d: %s", child.pid, line)
        crash = ClipError(
            "DECODER_CRASHED",
            422,
            f"The video of {len(data):,} bytes ended the process that decoded it ({how}).",
            CRASH_HINT,
        )
        self._failures.add(data, crash)
        return crash

    def _keep(self) -> None:
        """Look after the zygote, have it fork children, look after idle ones, see to the end of killed ones."""
        while not self._closed:
            try:
                problem = self._look()
            except Exception:  # this thread has to live: see the constructor
                logger.exception("The keeper of decoding children failed, and goes on")
                problem = "the keeper failed; the log says how"
            with self._changed:
                self._problem = problem
                self._changed.notify_all()
                self._changed.wait_for(self._has_work, _RETRY_SECONDS if problem else _CHECK_SECONDS)
        left = [*self._idle, *self._busy, *(child for child, _ in self._dead)]
        for child in left:
            child.kill()
        for child in left:
            child.how_it_ended()
            child.hang_up()
        if self._zygote is not None:
            self._zygote.close()
            self._zygote.how_it_ended()

    def _has_work(self) -> bool:
        return self._closed or (bool(self._dead or len(self._idle) < self._size) and not self._problem)

    def _look(self) -> str:
        """One round of the keeper; what is wrong, or nothing."""
        with self._changed:
            for child in [child for child in self._idle if not child.well()]:
                logger.warning("Idle decoding child %d is gone or stopped; it is replaced", child.pid)
                self._idle.remove(child)
                self._bury(child, lost=True)
            dead, self._dead = self._dead, []
        unreaped = [(child, since) for child, since in dead if not self._laid_to_rest(child, since)]
        with self._changed:
            self._dead += unreaped
            missing = self._size - len(self._idle)
        try:
            zygote = self._living_zygote()
            for _ in range(missing):
                self._start(zygote)
        except (OSError, RuntimeError) as error:
            logger.error("Decoding children cannot be started: %s", error)
            return str(error)
        if unreaped:
            time.sleep(0.002)  # they are just dying
        return ""

    def _laid_to_rest(self, child: Child, since: float) -> bool:
        """See to the end of a killed child; whether that is over."""
        gone = child.zygote.reaped() or child.ended()
        if not gone and time.monotonic() - since < _UNREAPED_SECONDS:
            return False
        child.hang_up()
        if gone:
            child.slot.clear()
            self._slots.append(child.slot)
        else:
            logger.error("Decoding child %d does not end; something holds it", child.pid)
            child.slot.close()
        return True

    def _living_zygote(self) -> Zygote:
        """The zygote; a new one where that is gone, stopped, or not answering."""
        if self._zygote is not None:
            if self._zygote.well():
                return self._zygote
            logger.warning("The zygote of decoding children %s; it is replaced", self._zygote.how_it_ended())
            self._give_up_zygote()
        zygote = Zygote(self._module, self._window_bytes, self._limits)
        try:
            self._note(zygote.wait_until_ready(time.monotonic() + _START_SECONDS))
        except (TimeoutError, ConnectionError) as error:
            how = zygote.how_it_ended()
            said = "; it said: " + " | ".join(lines) if (lines := zygote.words.said()) else ""
            zygote.close()
            raise RuntimeError(f"the zygote {how} at its start{said}") from error
        self._zygote = zygote
        return zygote

    def _give_up_zygote(self) -> None:
        """Its children end with it."""
        assert self._zygote is not None
        for line in self._zygote.words.said():
            logger.warning("The zygote of decoding children: %s", line)
        self._zygote.close()
        self._zygote = None

    def _start(self, zygote: Zygote) -> None:
        """Have one more child.

        Raises:
            OSError, RuntimeError: it cannot be had.
        """
        slot = self._slots.pop() if self._slots else Slot(self._window_bytes)
        try:
            child = zygote.fork(slot)
        except (TimeoutError, ConnectionError):
            self._slots.append(slot)
            self._give_up_zygote()
            raise
        except BaseException:
            self._slots.append(slot)
            raise
        try:
            self._note(child.wait_until_ready(time.monotonic() + _FORK_SECONDS))
        except (TimeoutError, ConnectionError) as error:
            said = " | ".join(child.words.said())
            with self._changed:
                self._bury(child, lost=True)
            raise RuntimeError(f"a child ended at its start: {said or error}") from error
        with self._changed:
            self._idle.append(child)
            self._changed.notify_all()

    def _note(self, defences: dict[str, str]) -> None:
        """Note the defences that hold.

        Raises:
            RuntimeError: one that is required does not.
        """
        self.defences = self.defences | defences
        lacking = {name: why for name, why in defences.items() if why != "on" and name in REQUIRED}
        if self._require and lacking:
            raise RuntimeError(f"the sandbox is required, and is without {lacking}")


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
