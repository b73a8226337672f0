"""How patient the supervisor is: with a fault before it acts, and with a remedy before it tries again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Seconds, and some counts. On an idle machine each fault is over within 15 s."""

    poll: float = 1.0
    """Between two looks."""
    call: float = 2.0
    """For an answer of the management or metrics address, which takes milliseconds."""
    dead_worker: float = 4.0
    """Without a process, before its model gets new workers: TorchServe's own tries come first."""
    stopped: float = 2.0
    """Of a process in state T, until it is told to go on; when it is twice as long, the process is killed."""
    silence: float = 6.0
    """Of the management API, before a server that uses no CPU time is started anew."""
    silence_at_work: float = 60.0
    """The same for one that does use it: it collects garbage, or the machine has too much to do."""
    probe: float = 4.0
    """Between two predictions of the probe clip while all is well."""
    spacing: float = 10.0
    """A prediction is made at most in one part in so many of the time, which spares a slow machine."""
    stuck: float = 3.0
    """Without an answer to the probe, a right answer to anyone else, or CPU time used by a worker."""
    probe_deadline: float = 150.0
    """For the probe's answer while there are signs of life: TorchServe's own limit of 120 s comes first."""
    looks: int = 3
    """So many at least must find the same silence: on a machine with too much to do they take longer."""
    attempts: int = 3
    """Failed probes, of the last twice as many, before a model gets new workers."""
    first_retry: float = 5.0
    """Until the second try of what did not help; it doubles with each one."""
    last_retry: float = 30.0
    """It does not grow beyond."""
    healthy: float = 120.0
    """Without a fault, until the next one counts as the first again."""


@dataclass
class BackOff:
    """When a remedy may be tried again."""

    policy: Policy
    _tries: int = 0
    _last: float = 0.0

    def due(self, now: float) -> bool:
        """Whether enough time has passed since the last try."""
        if not self._tries or now - self._last > self._wait() + self.policy.healthy:
            self._tries = 0
            return True
        return now - self._last >= self._wait()

    def tried(self, now: float) -> None:
        """Call after each try."""
        self._tries, self._last = self._tries + 1, now

    def _wait(self) -> float:
        return min(self.policy.first_retry * 2.0 ** (self._tries - 1), self.policy.last_retry)
