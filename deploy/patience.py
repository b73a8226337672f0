"""How long the supervisor waits: with a fault before it acts, and with a remedy before it tries again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Times in seconds, and some counts. On an idle machine each fault is over within 15 s."""

    poll: float = 1.0
    """Between two checks."""
    call: float = 2.0
    """For an answer of the management or metrics API, which normally takes milliseconds."""
    dead_worker: float = 4.0
    """A worker without a process for so long: its model gets new workers. TorchServe's own tries come first."""
    stopped: float = 2.0
    """A process in state T for so long is told to continue; after twice the time it is killed."""
    silence: float = 6.0
    """Silence of the management API before a server that uses no CPU time is replaced."""
    silence_at_work: float = 60.0
    """The same for a server that uses CPU time: it collects garbage, or the machine has too much to do."""
    silent_gateway: float = 15.0
    """Silence of the gateway before it is replaced, on a busy machine too: its jobs go on where they were."""
    probe: float = 4.0
    """Between two probes while all is well."""
    spacing: float = 10.0
    """Probes take at most this part of the time: one in so many. This spares a slow machine."""
    stuck: float = 3.0
    """Time without an answer to the probe, a right answer to anyone else, or CPU time of a worker."""
    probe_deadline: float = 150.0
    """For the probe's answer while there are signs of life; TorchServe's own limit of 120 s comes first."""
    looks: int = 3
    """Checks in a row that must find the same silence; on a busy machine they take longer than `poll`."""
    attempts: int = 3
    """Failed probes, out of the last twice as many, before a model gets new workers."""
    first_retry: float = 5.0
    """Before the second try of a remedy without effect; doubled after each try."""
    last_retry: float = 30.0
    """The longest such wait."""
    healthy: float = 120.0
    """Time without a fault after which the next one counts as the first again."""


@dataclass
class BackOff:
    """Decides when a remedy may be tried again."""

    policy: Policy
    _tries: int = 0
    _last: float = 0.0

    def due(self, now: float) -> bool:
        """Whether enough time has passed since the last try; `now` is in seconds of `time.monotonic`."""
        if not self._tries or now - self._last > self._wait() + self.policy.healthy:
            self._tries = 0
            return True
        return now - self._last >= self._wait()

    def tried(self, now: float) -> None:
        """Record a try."""
        self._tries, self._last = self._tries + 1, now

    def _wait(self) -> float:
        return min(self.policy.first_retry * 2.0 ** (self._tries - 1), self.policy.last_retry)
