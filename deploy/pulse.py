"""Signs of life that a process gives unasked: it is not stopped, and it uses CPU time.

A worker that computes for 100 s answers nobody, and neither does one that waits for a lock that nobody will
release. Only the first uses CPU time, in its own process or its children's.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field

import psutil

AT_WORK = 0.02
"""Share of one core. A worker without a request uses less than a thousandth; one that computes or decodes, a
core."""
_EAGER = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
"""Status of a process that computes, or waits for a CPU or a disk that others use."""
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@dataclass
class Pulse:
    """What is known of one process and its children; call `feel` at each check."""

    process: psutil.Process
    stopped_since: float | None = None
    """Time at which it was first seen stopped (state T of ps), in seconds of `time.monotonic`; None: it is
    not."""
    worked: float = field(default_factory=time.monotonic)
    """Time at which it was last seen at work; for a new process, now."""
    continued: bool = False
    """Whether it was told to continue since it stopped."""
    _felt: float = field(default_factory=time.monotonic)
    _cpu_seconds: float | None = None

    def feel(self) -> None:
        """Check the process, and record what was seen."""
        now = time.monotonic()
        try:
            status = self.process.status()
            spent, eager = _family(self.process)
        except psutil.NoSuchProcess:
            return  # others check whether it exists
        except (psutil.Error, OSError):
            self.worked = now  # not known, so no fault
            return
        gap, self._felt = now - self._felt, now
        before, self._cpu_seconds = self._cpu_seconds, spent
        # The sum falls when a child has ended and nobody has waited for it yet.
        if eager or before is None or abs(spent - before) >= AT_WORK * gap:
            self.worked = now
        if status not in _STOPPED:
            self.stopped_since, self.continued = None, False
            return
        self.stopped_since = self.stopped_since or now
        self.worked = now  # being stopped is another fault, with another remedy

    def forgive(self) -> None:
        """Draw no conclusion from a time in which this process, or the whole machine, stood still."""
        self.worked = self._felt = time.monotonic()
        self.stopped_since, self._cpu_seconds = None, None

    def resume(self) -> None:
        """Tell a stopped process to continue; nothing that it was doing is lost."""
        self.continued = True
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it. TorchServe restarts a dead worker at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        try:
            self.process.send_signal(signum)  # psutil checks that the pid still means the same process
        except (psutil.Error, OSError):
            return  # gone, or another user's; the next check sees what is still wrong


def _family(process: psutil.Process) -> tuple[float, bool]:
    """CPU seconds of a process and all its descendants, including ended ones; and whether one of them is eager.

    Raises:
        psutil.Error: the process itself is gone, or may not be inspected.
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
        # Includes the time of ended children that it has waited for.
        spent = float(times.user + times.system + times.children_user + times.children_system)
        return spent, process.status() in _EAGER
