"""The processes of one server: the JVM, its workers, and their children."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

_POLL_SECONDS = 0.05


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
        """The process that now has this pid."""
        return cls(pid=pid, session=os.getsid(pid), created=psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """It runs; a zombie, which only waits to be reaped, does not."""
        return self._jvm() is not None

    def terminate(self, patience_seconds: float) -> None:
        """SIGTERM to the JVM, which ends its workers; SIGKILL to what is left after `patience_seconds`."""
        # Those that went to a session of their own can only be found while the JVM is there.
        family = self._descendants()
        jvm = self._jvm()
        if jvm is not None:
            jvm.terminate()
            wait_gone([jvm], patience_seconds)
        # Workers notice within moments that the JVM is gone; nothing of a server may stay behind.
        left = {p.pid: p for p in [*family, *self._session_members(), *([jvm] if jvm else [])]}
        for process in wait_gone(list(left.values()), 2.0):
            process.kill()
        wait_gone(list(left.values()), 5.0)

    def command_lines(self) -> list[str]:
        """Of all that it started and that runs now."""
        lines = []
        for process in self._descendants():
            try:
                if runs(process):
                    lines.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return lines

    def end(self, patience_seconds: float) -> None:
        """SIGTERM to this one process, SIGKILL where it does not end; nothing that it started is touched."""
        process = self._jvm()
        if process is None:
            return
        process.terminate()
        for stubborn in wait_gone([process], patience_seconds):
            stubborn.kill()
        wait_gone([process], 5.0)

    def _jvm(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 2.0
            return process if same and runs(process) else None
        except psutil.Error:
            return None

    def _descendants(self) -> list[psutil.Process]:
        jvm = self._jvm()
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
    """It is there and no zombie, which only waits to be reaped."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def wait_gone(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Those that still run after the time-out.

    `psutil.wait_procs` would wait for zombies too, and in a container there may be no one to reap them.
    """
    deadline = time.monotonic() + timeout_seconds
    while (left := [p for p in processes if runs(p)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left
