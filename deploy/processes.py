"""The processes of one server: the JVM, its workers, and their children."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from dataclasses import dataclass

import psutil

_POLL_SECONDS = 0.05
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerProcess:
    """Identifies a JVM, so that a later process with the same pid is not taken for it."""

    pid: int
    session: int
    """The session of everything that the server starts."""
    created: float
    """Time at which the JVM started, in seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> ServerProcess:
        """The process that has this pid now.

        Raises:
            OSError, psutil.Error: there is none, or it may not be inspected.
        """
        return cls(pid=pid, session=os.getsid(pid), created=psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """Whether it runs; a zombie, which only waits to be reaped, does not."""
        return self.jvm() is not None

    def terminate(self, patience_seconds: float) -> None:
        """Send SIGTERM to the JVM, which ends its workers, and SIGKILL to what is left after
        `patience_seconds`.
        """
        # Descendants in sessions of their own can only be found while the JVM exists.
        family = self._descendants()
        jvm = self.jvm()
        if jvm is not None:
            _signal(jvm, signal.SIGTERM)
            wait_gone([jvm], patience_seconds)
        # Workers soon notice that the JVM is gone; nothing of a server may stay behind.
        left = {p.pid: p for p in [*family, *self._session_members(), *([jvm] if jvm else [])]}
        for process in wait_gone(list(left.values()), 2.0):
            _signal(process, signal.SIGKILL)
        wait_gone(list(left.values()), 5.0)

    def children(self) -> list[tuple[psutil.Process, str]]:
        """Running processes that the JVM itself started, each with its command line.

        A worker's pid is read here and not from TorchServe's management API, which believes whatever a worker
        prints. Processes that a worker starts are not children of the server, whatever they call themselves.
        """
        found = []
        jvm = self.jvm()
        try:
            direct = jvm.children() if jvm else []
        except psutil.Error:
            direct = []
        for process in direct:
            try:
                if runs(process):
                    found.append((process, " ".join(process.cmdline())))
            except psutil.Error:
                continue
        return found

    def end(self, patience_seconds: float) -> None:
        """Send SIGTERM to this one process, and SIGKILL if it does not end; its children are left alone."""
        process = self.jvm()
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        for stubborn in wait_gone([process], patience_seconds):
            _signal(stubborn, signal.SIGKILL)
        wait_gone([process], 5.0)

    def jvm(self) -> psutil.Process | None:
        """The process; None where it does not run."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 2.0
            return process if same and runs(process) else None
        except (psutil.Error, ValueError, OverflowError):
            return None

    def _descendants(self) -> list[psutil.Process]:
        jvm = self.jvm()
        try:
            return jvm.children(recursive=True) if jvm else []
        except psutil.Error:
            return []

    def _session_members(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                # Older processes belong to an earlier session with this number.
                if os.getsid(process.pid) == self.session and process.create_time() >= self.created - 2.0:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def runs(process: psutil.Process) -> bool:
    """Whether a process exists and is no zombie; one that may not be inspected counts as running."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _signal(process: psutil.Process, signum: signal.Signals) -> None:
    """Send a signal. A process that is gone or another user's is ignored: whoever waits for its end sees it."""
    try:
        process.send_signal(signum)
    except psutil.Error:
        return


def wait_gone(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Wait for processes to end; returns those that still run after the time-out.

    `psutil.wait_procs` also waits for zombies, and in a container there may be nobody to reap them.
    """
    deadline = time.monotonic() + timeout_seconds
    while (left := [p for p in processes if runs(p)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left


def adopt_orphans() -> None:
    """Make this process, and not init, the parent of descendants whose own parent ends.

    TorchServe's launcher ends when the JVM runs. Where Yama's ``ptrace_scope`` is 1, only an ancestor may
    borrow a process's sockets, as `drain` does. The adopting process must call `reap_orphans`.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        logger.warning("Orphans are not adopted: %s", os.strerror(ctypes.get_errno()))


def reap_orphans() -> None:
    """Reap children that have ended, so that no zombies pile up.

    Call it only where no other thread waits for a child of its own.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
