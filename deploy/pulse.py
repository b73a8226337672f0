"""Signs of life that a process gives without being asked: it is not stopped, and it uses CPU time.

A worker that computes for 100 s answers nobody, and neither does one that waits for a lock which nobody will
ever release. Only the first uses CPU time, its own or its children's.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field

import psutil

AT_WORK = 0.02
"""Of one core. A worker without a request uses less than a thousandth, one that computes or decodes a core."""
_EAGER = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
"""It computes, or waits for a CPU or a disk that others use."""
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@dataclass
class Pulse:
    """What was seen of one process and its children so far; `feel` it at each look."""

    process: psutil.Process
    stopped_since: float | None = None
    """When it was first seen stopped (state T of ps); None while it is not. Seconds of `time.monotonic`."""
    worked: float = field(default_factory=time.monotonic)
    """When it was last seen at work; a process that is new counts as such."""
    continued: bool = False
    """It was told to go on since it has stopped."""
    _felt: float = field(default_factory=time.monotonic)
    _cpu_seconds: float | None = None

    def feel(self) -> None:
        """Look at it."""
        now = time.monotonic()
        try:
            status = self.process.status()
            spent, eager = _family(self.process)
        except psutil.NoSuchProcess:
            return  # whether it is there is for others to see
        except (psutil.Error, OSError):
            self.worked = now  # no information is no fault
            return
        gap, self._felt = now - self._felt, now
        before, self._cpu_seconds = self._cpu_seconds, spent
        # The sum falls when a child is gone that nobody has waited for yet.
        if eager or before is None or abs(spent - before) >= AT_WORK * gap:
            self.worked = now
        if status not in _STOPPED:
            self.stopped_since, self.continued = None, False
            return
        self.stopped_since = self.stopped_since or now
        self.worked = now  # it cannot work: a fault of its own, with a remedy of its own

    def forgive(self) -> None:
        """Time went by in which this process, or the whole machine, stood still: nothing follows from it."""
        self.worked = self._felt = time.monotonic()
        self.stopped_since, self._cpu_seconds = None, None

    def resume(self) -> None:
        """Tell a stopped process to go on: nothing that it was doing is lost."""
        self.continued = True
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; TorchServe starts a worker that died anew, at once too."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        try:
            self.process.send_signal(signum)  # psutil sees to it that the pid still means the same process
        except (psutil.Error, OSError):
            return  # gone, or not ours; what stays wrong is seen at the next look


def _family(process: psutil.Process) -> tuple[float, bool]:
    """CPU seconds that the process and all its descendants, gone ones too, have used; whether one wants more.

    Raises:
        psutil.Error: the process itself is gone or may not be looked at.
    """
    spent, eager = _member(process)
    for child in process.children(recursive=True):
        try:
            of_child, child_eager = _member(child)
        except psutil.NoSuchProcess:
            continue
        spent, eager = spent + of_child, eager or child_eager
    return spent, eager


def _member(process: psutil.Process) -> tuple[float, bool]:
    with process.oneshot():
        times = process.cpu_times()
        # With what its children used that it has waited for.
        spent = float(times.user + times.system + times.children_user + times.children_system)
        return spent, process.status() in _EAGER
