"""The keeper of decoding children: a thread that has fresh ones ready, and sees to the end of those that are
done.

    idle    fresh children, which nobody has asked anything
    busy    each with one request
    kept    of one client each, for its next request
    dead    killed, or ended; their memory is cleared and used again once their end has been seen

What a fresh process does for the first time costs it about as much as the decoding of a small clip: a child for
each request costs 29 ms of CPU time at 340x256, one that is kept 4 ms (benchmarks/sandbox.py). So a client that
has a name keeps a child, which is never another's. A request without a client's name has a child of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

from ..limits import Limits
from .confine import REQUIRED
from .process import Child, Zygote
from .slot import Slot

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
"""How often idle children and the zygote are looked at."""
_START_SECONDS = 120.0
"""Until the zygote must be ready: a third of a second on an idle machine."""
_FORK_SECONDS = 20.0
"""Until a child must be ready: milliseconds on an idle machine."""
_RETRY_SECONDS = 1.0
"""Until the keeper tries again after children that could not be started."""
_UNREAPED_SECONDS = 60.0
"""Until a killed child whose end nobody can see, since something holds it, is given up."""
_KEPT_SECONDS = 60.0
"""Until a child that its client has no request for is ended."""
_KEPT_BYTES = 400_000_000
"""Of memory that a child may have and be kept: what a large video has made it take stays with it."""
_KEPT_CPU_SECONDS = 30.0
"""Of its life so far, that a child may have used and be kept."""
_DYING_SECONDS = 0.002
"""Between two looks at children that were just killed."""


class Keeper:
    """Keeps a number of fresh children ready. Thread-safe.

    Args:
        size: of them.
        module: what the zygote runs.
        window_bytes: of shared memory for each child.
        limits: what a child may use.
        require: start no child where one of `confine.REQUIRED` cannot be had.

    Raises:
        RuntimeError: no child can be started, or not with the defences that are required.
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
        """With its client, and the moment from which it has been without a request."""
        self.dead: list[tuple[Child, float]] = []
        """With the moment at which each was killed."""
        self.slots: list[Slot] = []
        """Memory that is cleared, and nobody's."""
        self.zygote: Zygote | None = None
        self.closed = False
        self._problem = ""
        self.defences: dict[str, str] = {}
        """Defence -> ``on``, or why it could not be had."""
        self.lost = 0
        """Children that were lost, or killed before they had answered, so far."""
        # The kernel ends the zygote with the *thread* that started it, and its children with it: this one,
        # which therefore lives as long as the keeper.
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
        """A child for a request; None where there is none within so many seconds.

        Args:
            client: whose request it is; empty: not known, so the child is to be a fresh one.
            seconds: to wait.
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
                    # The oldest: it is ready for sure.
                    child = self.idle.pop(0)
                    self._changed.notify_all()
                    if child.well():
                        self.busy.add(child)
                        return child
                    self._bury(child, lost=True)
                self._changed.wait(_CHECK_SECONDS)
        return None

    def end(self, child: Child, client: str, *, lost: bool) -> None:
        """Take a child back, whose request is over.

        Args:
            child: from `take`.
            client: whose request it was; without one the child's life is over, too.
            lost: whether it was lost, or is killed before it has answered.
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
        """Kill a child; the thread sees to its end. Call it with the lock held."""
        child.kill()
        self.lost += lost
        self.dead.append((child, time.monotonic()))
        self._changed.notify_all()

    def _keep(self) -> None:
        """Look after the zygote, have it fork children, look after idle ones, see to the end of killed ones."""
        while not self.closed:
            try:
                problem = self._look()
            except Exception:  # this thread has to live: see the constructor
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
        """One round of the keeper; what is wrong, or nothing."""
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
        """See to the end of a killed child; whether that is over."""
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
        """The zygote; a new one where that is gone, stopped, or not answering."""
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
            said = "; it said: " + " | ".join(lines) if (lines := zygote.words.said()) else ""
            zygote.close()
            raise RuntimeError(f"the zygote {how} at its start{said}") from error
        self.zygote = zygote
        return zygote

    def _give_up_zygote(self) -> None:
        """Its children end with it."""
        assert self.zygote is not None
        for line in self.zygote.words.said():
            logger.warning("The zygote of decoding children: %s", line)
        self.zygote.close()
        self.zygote = None

    def _start(self, zygote: Zygote) -> None:
        """Have one more child.

        Raises:
            OSError, RuntimeError: it cannot be had.
        """
        slot = self.slots.pop() if self.slots else Slot(self._window_bytes)
        try:
            child = zygote.fork(slot)
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
            said = " | ".join(child.words.said())
            with self._changed:
                self._bury(child, lost=True)
            raise RuntimeError(f"a child ended at its start: {said or error}") from error
        with self._changed:
            self.idle.append(child)
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
