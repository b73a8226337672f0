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
    """Names a JVM so that another process which later gets the same pid is not taken for it."""

    pid: int
    session: int
    """All that the server starts is in this session."""
    created: float
    """When the JVM started, in seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> ServerProcess:
        """The process that now has this pid.

        Raises:
            OSError, psutil.Error: there is none, or it may not be looked at.
        """
        return cls(pid=pid, session=os.getsid(pid), created=psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """It runs; a zombie, which only waits to be reaped, does not."""
        return self.jvm() is not None

    def terminate(self, patience_seconds: float) -> None:
        """SIGTERM to the JVM, which ends its workers; SIGKILL to what is left after `patience_seconds`."""
        # Those that went to a session of their own can only be found while the JVM is there.
        family = self._descendants()
        jvm = self.jvm()
        if jvm is not None:
            _signal(jvm, signal.SIGTERM)
            wait_gone([jvm], patience_seconds)
        # Workers notice within moments that the JVM is gone; nothing of a server may stay behind.
        left = {p.pid: p for p in [*family, *self._session_members(), *([jvm] if jvm else [])]}
        for process in wait_gone(list(left.values()), 2.0):
            _signal(process, signal.SIGKILL)
        wait_gone(list(left.values()), 5.0)

    def children(self) -> list[tuple[psutil.Process, str]]:
        """What the process itself started and what runs now, each with its command line.

        A worker's pid is looked up here, and not in TorchServe's management API: that believes whatever a
        worker's output says. What a worker starts is no child of the server, whatever it calls itself.
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
        """SIGTERM to this one process, SIGKILL where it does not end; nothing that it started is touched."""
        process = self.jvm()
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        for stubborn in wait_gone([process], patience_seconds):
            _signal(stubborn, signal.SIGKILL)
        wait_gone([process], 5.0)

    def jvm(self) -> psutil.Process | None:
        """The process, where it runs."""
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
                # Older ones belong to a session that had this number before.
                if os.getsid(process.pid) == self.session and process.create_time() >= self.created - 2.0:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def runs(process: psutil.Process) -> bool:
    """It is there and no zombie, which only waits to be reaped; one that may not be looked at is there."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _signal(process: psutil.Process, signum: signal.Signals) -> None:
    """Where the process is gone or another user's, nothing: who waits for its end sees that."""
    try:
        process.send_signal(signum)
    except psutil.Error:
        return


def wait_gone(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Those that still run after the time-out.

    `psutil.wait_procs` would wait for zombies too, and in a container there may be no one to reap them.
    """
    deadline = time.monotonic() + timeout_seconds
    while (left := [p for p in processes if runs(p)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left


def adopt_orphans() -> None:
    """From now on descendants whose parent ends become children of this process, and not of init.

    TorchServe's launcher ends when the JVM runs. Where Yama's ``ptrace_scope`` is 1 only an ancestor may borrow
    a process's sockets, as `drain` does. Who adopts has to `reap_orphans`.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        logger.warning("Orphans are not adopted: %s", os.strerror(ctypes.get_errno()))


def reap_orphans() -> None:
    """Take note of the end of children that have ended, so that no zombies pile up.

    Call it where no other thread waits for a child of its own.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
