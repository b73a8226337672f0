"""The keeper of decoding children: a thread that has fresh ones ready, and ends those that are done.

    idle    fresh children, which have had no request
    busy    each with one request
    kept    each for one client's next request
    dead    killed or ended; their memory is cleared and used again when their end has been seen

The first request costs a fresh process about as much as the decoding of a small clip: a new child for each
request costs 29 ms of CPU time at 340x256, a kept one 4 ms (benchmarks/sandbox.py). So a client with a name
keeps its child, which is never given to another client. A request without a client's name has a child of
its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

from ..limits import Limits
from .child_process import Child
from .confine import REQUIRED
from .slot import Slot
from .zygote_process import Zygote

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
"""Seconds between two checks of idle children and the zygote."""
_START_SECONDS = 120.0
"""Seconds within which the zygote must be ready; on an idle machine it takes a third of a second."""
_FORK_SECONDS = 20.0
"""Seconds within which a child must be ready; on an idle machine it takes milliseconds."""
_RETRY_SECONDS = 1.0
"""Seconds before the keeper tries again, after children could not be started."""
_UNREAPED_SECONDS = 60.0
"""Seconds after which a killed child whose end cannot be seen, since something holds it, is given up."""
_KEPT_SECONDS = 60.0
"""Seconds without a request of its client after which a kept child is ended."""
_KEPT_BYTES = 400_000_000
"""Bytes of memory up to which a child is kept: what a large video has made it take stays with it."""
_KEPT_CPU_SECONDS = 30.0
"""Seconds of CPU time, over its life, up to which a child is kept."""
_DYING_SECONDS = 0.002
"""Seconds between two checks of children that were just killed."""


class Keeper:
    """Keeps a number of fresh children ready. Thread-safe.

    Args:
        size: number of fresh children.
        module: what the zygote runs.
        window_bytes: size of the shared memory of each child.
        limits: what a child may use.
        require: start no child unless all of `confine.REQUIRED` hold.

    Raises:
        RuntimeError: no child can be started, or a required defence is missing.
    """

    def __init__(self, size: int, module: str, window_bytes: int, limits: Limits, *, require: bool) -> None:
        self._size = size
        self._module = module
        self._window_bytes = window_bytes
        self._limits = limits
        self._require = require
        self._changed = threading.Condition()
        self.idle: list[Child] = []
        self.busy: set[Child] = set()
        self.kept: OrderedDict[Child, tuple[str, float]] = OrderedDict()
        """Child -> its client, and the time of its last request (`time.monotonic`)."""
        self.dead: list[tuple[Child, float]] = []
        """Each with the time at which it was killed (`time.monotonic`)."""
        self.slots: list[Slot] = []
        """Cleared memory that no child uses."""
        self.zygote: Zygote | None = None
        self.closed = False
        self._problem = ""
        self.defences: dict[str, str] = {}
        """Defence -> ``on``, or the reason why it does not hold."""
        self.lost = 0
        """How many children have died, or were killed before they had answered."""
        # The kernel ends the zygote, and so its children, with the *thread* that started it: this one. So it
        # lives as long as the keeper.
        self.thread = threading.Thread(target=self._keep, name="sandbox", daemon=True)
        self.thread.start()
        with self._changed:
            self._changed.wait_for(lambda: len(self.idle) >= size or self._problem, _START_SECONDS)
            if len(self.idle) >= size:
                return
            problem = self._problem or f"they are not ready after {_START_SECONDS:g} s"
        self.close()
        raise RuntimeError(f"Decoding children cannot be started: {problem}")

    def take(self, client: str, seconds: float) -> Child | None:
        """A child for a request; None where there is none in time.

        Args:
            client: name of the request's client; empty: not known, so the child must be a fresh one.
            seconds: the longest wait.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            for child in [child for child, (owner, _) in reversed(self.kept.items()) if owner == client]:
                del self.kept[child]
                if child.well():
                    self.busy.add(child)
                    return child
                self._bury(child, lost=True)
            while not self.closed and time.monotonic() < deadline:
                while self.idle:
                    # The oldest one is ready for sure.
                    child = self.idle.pop(0)
                    self._changed.notify_all()
                    if child.well():
                        self.busy.add(child)
                        return child
                    self._bury(child, lost=True)
                self._changed.wait(_CHECK_SECONDS)
        return None

    def end(self, child: Child, client: str, *, lost: bool) -> None:
        """Take back a child whose request is over: keep it for its client, or end it.

        Args:
            child: from `take`.
            client: name of the request's client; a child without one is ended.
            lost: whether the child has died, or must be killed before it has answered.
        """
        fit = child.memory_bytes() < _KEPT_BYTES and child.cpu_seconds() < _KEPT_CPU_SECONDS
        with self._changed:
            self.busy.discard(child)
            if lost or not client or not fit or child.stepped_back or self.closed:
                self._bury(child, lost=lost)
                return
            self.kept[child] = (client, time.monotonic())
            while len(self.kept) > self._size:
                self._bury(self.kept.popitem(last=False)[0], lost=False)

    def pids(self) -> list[int]:
        """Process ids of the living children."""
        with self._changed:
            return [child.pid for child in (*self.idle, *self.busy, *self.kept)]

    def close(self) -> None:
        """End all children."""
        with self._changed:
            self.closed = True
            for child in (*self.idle, *self.busy, *self.kept):
                child.kill()
            self._changed.notify_all()
        self.thread.join(_START_SECONDS)

    def _bury(self, child: Child, *, lost: bool) -> None:
        """Kill a child; the thread waits for its end. Call it with the lock held."""
        child.kill()
        self.lost += lost
        self.dead.append((child, time.monotonic()))
        self._changed.notify_all()

    def _keep(self) -> None:
        """Check the zygote, have it fork children, check idle children, and wait for the end of killed ones."""
        while not self.closed:
            try:
                problem = self._look()
            except Exception:  # this thread must not end: see the constructor
                logger.exception("The keeper of decoding children failed, and goes on")
                problem = "the keeper failed; the log says how"
            with self._changed:
                self._problem = problem
                self._changed.notify_all()
                self._changed.wait_for(self._has_work, _RETRY_SECONDS if problem else _CHECK_SECONDS)
        left = [*self.idle, *self.busy, *self.kept, *(child for child, _ in self.dead)]
        for child in left:
            child.kill()
        for child in left:
            child.how_it_ended()
            child.hang_up()
        if self.zygote is not None:
            self.zygote.close()
            self.zygote.how_it_ended()

    def _has_work(self) -> bool:
        return self.closed or (bool(self.dead or len(self.idle) < self._size) and not self._problem)

    def _look(self) -> str:
        """One round of the keeper. Returns what is wrong; empty where nothing is."""
        with self._changed:
            for child in [child for child in self.idle if not child.well()]:
                logger.warning("Idle decoding child %d is gone or stopped; it is replaced", child.pid)
                self.idle.remove(child)
                self._bury(child, lost=True)
            tired = time.monotonic() - _KEPT_SECONDS
            for child in [child for child, (_, since) in self.kept.items() if since < tired]:
                del self.kept[child]
                self._bury(child, lost=False)
            dead, self.dead = self.dead, []
        unreaped = [(child, since) for child, since in dead if not self._laid_to_rest(child, since)]
        with self._changed:
            self.dead += unreaped
            missing = self._size - len(self.idle)
        try:
            zygote = self._living_zygote()
            for _ in range(missing):
                self._start(zygote)
        except (OSError, RuntimeError) as error:
            logger.error("Decoding children cannot be started: %s", error)
            return str(error)
        if unreaped:
            time.sleep(_DYING_SECONDS)
        return ""

    def _laid_to_rest(self, child: Child, since: float) -> bool:
        """Free what is left of a killed child; returns whether nothing is left to do."""
        gone = child.zygote.reaped() or child.ended()
        if not gone and time.monotonic() - since < _UNREAPED_SECONDS:
            return False
        child.hang_up()
        if gone:
            child.slot.clear()
            self.slots.append(child.slot)
        else:
            logger.error("Decoding child %d does not end; something holds it", child.pid)
            child.slot.close()
        return True

    def _living_zygote(self) -> Zygote:
        """The zygote; a new one where the old one is gone, stopped, or does not answer."""
        if self.zygote is not None:
            if self.zygote.well():
                return self.zygote
            logger.warning("The zygote of decoding children %s; it is replaced", self.zygote.how_it_ended())
            self._give_up_zygote()
        zygote = Zygote(self._module, self._window_bytes, self._limits)
        try:
            self._note(zygote.wait_until_ready(time.monotonic() + _START_SECONDS))
        except (TimeoutError, ConnectionError) as error:
            how = zygote.how_it_ended()
            said = "; it said: " + " | ".join(lines) if (lines := zygote.stderr.lines()) else ""
            zygote.close()
            raise RuntimeError(f"the zygote {how} at its start{said}") from error
        self.zygote = zygote
        return zygote

    def _give_up_zygote(self) -> None:
        """Drop the zygote; its children end with it."""
        assert self.zygote is not None
        for line in self.zygote.stderr.lines():
            logger.warning("The zygote of decoding children: %s", line)
        self.zygote.close()
        self.zygote = None

    def _start(self, zygote: Zygote) -> None:
        """Start one more child.

        Raises:
            OSError, RuntimeError: it cannot be started.
        """
        slot = self.slots.pop() if self.slots else Slot(self._window_bytes)
        try:
            child = Child.fork(zygote, slot)
        except (TimeoutError, ConnectionError):
            self.slots.append(slot)
            self._give_up_zygote()
            raise
        except BaseException:
            self.slots.append(slot)
            raise
        try:
            self._note(child.wait_until_ready(time.monotonic() + _FORK_SECONDS))
        except (TimeoutError, ConnectionError) as error:
            said = " | ".join(child.stderr.lines())
            with self._changed:
                self._bury(child, lost=True)
            raise RuntimeError(f"a child ended at its start: {said or error}") from error
        with self._changed:
            self.idle.append(child)
            self._changed.notify_all()

    def _note(self, defences: dict[str, str]) -> None:
        """Record the defences that hold.

        Raises:
            RuntimeError: a required one does not hold.
        """
        self.defences = self.defences | defences
        lacking = {name: why for name, why in defences.items() if why != "on" and name in REQUIRED}
        if self._require and lacking:
            raise RuntimeError(f"the sandbox is required, and is without {lacking}")
