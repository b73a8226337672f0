"""What the supervisor knows of one model: which workers live, and whether anyone gets a right answer."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from dataclasses import dataclass, field

import psutil

from .management import Model, Worker
from .patience import BackOff, Policy
from .probe import Answer, Probe, Progress, progress
from .pulse import Pulse
from .state import State

logger = logging.getLogger(__name__)


@dataclass
class Watched:
    """One model, over all checks. Times are seconds of `time.monotonic`.

    Args:
        name: the model's name.
        policy: how patient to be.
        wanted: the number of workers that `make scale` or the archive set last.
    """

    name: str
    policy: Policy
    wanted: int
    back_off: BackOff = field(init=False)
    """When the model may be scaled again."""
    short: bool = False
    """Whether it still lacks workers that it had before."""
    remedies: int = 0
    """Remedies tried since it last predicted well."""
    _dead_since: float | None = None
    _pulses: dict[psutil.Process, Pulse] = field(default_factory=dict)
    _probe: Probe | None = None
    _next_probe: float = 0.0
    _quiet_since: float | None = None
    """Time since which the probe finds a full queue, or waits, without a sign of life."""
    _quiet_looks: int = 0
    _results: deque[bool] = field(init=False)
    _took: float = 0.0
    """Seconds that the last probe took."""
    _seen: Progress | None = None
    _asked: float = 0.0
    """Requests that had arrived by the last right answer."""
    _right: float = field(default_factory=time.monotonic)
    """Time of the last right answer to anyone."""

    def __post_init__(self) -> None:
        self.back_off = BackOff(self.policy)
        self._results = deque(maxlen=2 * self.policy.attempts)

    @property
    def well(self) -> bool:
        """Whether the last probe got a right answer."""
        return bool(self._results) and self._results[-1]

    def begin_anew(self) -> None:
        """Forget everything about the old workers: it has new ones."""
        self._dead_since, self._probe, self._quiet_since, self._seen = None, None, None, None
        self._results.clear()
        self._pulses.clear()

    def forgive(self) -> None:
        """Draw no conclusion from a time in which nothing ran; see `Pulse.forgive`."""
        now = time.monotonic()
        self._dead_since, self._quiet_since, self._right = None, None, now
        for pulse in self._pulses.values():
            pulse.forgive()

    def workers(self, model: Model, state: State) -> list[int]:
        """Check the worker processes; wake or kill those that are stopped.

        Returns:
            Numbers of the workers that have had no process for too long.
        """
        now = time.monotonic()
        running = state.process.children()
        found = [_process(worker, running) for worker in model.workers]
        self._pulses = {p: self._pulses.get(p) or Pulse(p) for p in found if p}
        for pulse in self._pulses.values():
            pulse.feel()
            if still_stopped(pulse, self.policy, f"{self.name}: a worker"):
                pulse.kill()
        dead = [number for number, process in enumerate(found) if process is None]
        if not dead:
            self._dead_since = None
            return []
        self._probe = None
        self._dead_since = self._dead_since or now
        return dead if now - self._dead_since > self.policy.dead_worker else []

    def fault(self, model: Model, state: State) -> str:
        """Check the answers, and send the probe clip where it is due.

        Returns:
            Why the model must be repaired; empty while it predicts, loads, or has much to do.
        """
        if self._dead_since is not None or not model.ready():
            self._probe = None
            self._right = time.monotonic()
            return ""  # a model may load for minutes
        self._look_at_others(state)
        reason = self._judge()
        if not reason and self._probe is None and time.monotonic() >= self._next_probe:
            self._probe = Probe(state, self.name, self.policy.probe_deadline)
        return reason

    def _judge(self) -> str:
        """The result of a probe that is under way, or has just ended; empty where it is no fault."""
        if self._probe is None:
            return ""
        finding, now = self._probe.finding, time.monotonic()
        if finding is None:
            return self._without_life("no answer to the probe")
        self._took, self._probe = self._probe.seconds, None
        if finding.answer is Answer.BUSY:
            self._next_probe = now + self._took
            return self._without_life(finding.reason)
        self._quiet_since = None
        self._results.append(finding.answer is Answer.RIGHT)
        failed, probes = self._results.count(False), len(self._results)
        if failed:  # probe at each check from now on, where a prediction takes no longer than that
            self._next_probe = now + max(0.0, self._took - self.policy.poll)
        else:
            self._next_probe = now + max(self.policy.probe, self.policy.spacing * self._took)
            if probes >= self.policy.attempts:
                self.remedies = 0
        if finding.answer is Answer.RIGHT:
            return ""
        logger.warning("%s: %d of the last %d probes failed: %s", self.name, failed, probes, finding.reason)
        return f"it does not predict: {finding.reason}" if failed >= self.policy.attempts else ""

    def kill_workers(self) -> int:
        """Kill its workers. TorchServe restarts them at once, and requests stay in its queue. Returns how
        many.
        """
        for pulse in self._pulses.values():
            pulse.kill()
        return len(self._pulses)

    def _look_at_others(self, state: State) -> None:
        """Note right answers to others. Errors alone, or requests without work, call for a probe at once."""
        now = time.monotonic()
        seen = progress(state, self.name, self.policy.call)
        before, self._seen = self._seen, seen or self._seen
        if seen is None or before is None:
            return
        if seen.last_times != before.last_times:
            self._right, self._asked = now, seen.asked
            return
        at_work = now - self._worked() <= self.policy.poll
        if seen.answered != before.answered or (seen.asked > self._asked and not at_work):
            self._next_probe = min(self._next_probe, now + self._took)

    def _without_life(self, reason: str) -> str:
        """The reason, if for too long nobody got a right answer and no worker was at work; else empty."""
        now = time.monotonic()
        if self._quiet_since is None or max(self._right, self._worked()) > self._quiet_since:
            self._quiet_since, self._quiet_looks = now, 0
            return ""
        self._quiet_looks += 1
        seconds = now - self._quiet_since
        if seconds < self.policy.stuck or self._quiet_looks < self.policy.looks:
            return ""
        return f"{reason}, no right answer to others and no worker at work for {seconds:.1f} s"

    def _worked(self) -> float:
        """Time at which a worker was last seen at work."""
        return max((pulse.worked for pulse in self._pulses.values()), default=0.0)


def still_stopped(pulse: Pulse, policy: Policy, what: str) -> bool:
    """Tell a stopped process to continue; returns whether it has stayed stopped nonetheless."""
    if pulse.stopped_since is None:
        return False
    seconds = time.monotonic() - pulse.stopped_since
    pid = pulse.process.pid
    if seconds >= 2 * policy.stopped:
        logger.warning("%s (pid %d) is stopped and does not go on", what, pid)
        return True
    if seconds >= policy.stopped and not pulse.continued:
        logger.warning("%s (pid %d) has been stopped for %.1f s: it is told to go on", what, pid, seconds)
        pulse.resume()
    return False


def _process(worker: Worker, running: list[tuple[psutil.Process, str]]) -> psutil.Process | None:
    # A worker's command line names its socket.
    socket = re.compile(rf"\.ts\.sock\.{re.escape(worker.id)}(?!\d)")
    return next((process for process, line in running if socket.search(line)), None)
