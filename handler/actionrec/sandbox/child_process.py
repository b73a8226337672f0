"""A decoding child as the worker sees it: a process, its socket, its memory for frames, its standard error."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from .slot import Slot
from .stderr import StderrReader
from .wire import Channel
from .zygote_process import Zygote, defences_in

_ENDING_SECONDS = 1.0
"""Seconds within which a child ends whose socket is closed; after that it is killed."""
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A child that a zygote has forked.

    Args:
        pid: its process id, which no other process gets before `Zygote.reap` has returned the child's status.
        zygote: the zygote that forked it.
        channel: the socket to it.
        slot: the memory for its frames.
        stderr: its standard error.
    """

    def __init__(self, pid: int, zygote: Zygote, channel: Channel, slot: Slot, stderr: StderrReader) -> None:
        self.pid = pid
        self.zygote = zygote
        self.slot = slot
        self.stderr = stderr
        self.stepped_back = False
        """Whether it runs only when no other process wants the processor."""
        self._channel = channel
        self._status: int | None = None
        clock = ctypes.c_int()
        self._clock = None if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) else clock.value
        self.send = channel.send
        self.receive = channel.receive

    @classmethod
    def fork(cls, zygote: Zygote, slot: Slot) -> Child:
        """Have a zygote fork a child, which is not ready yet.

        Raises:
            OSError: it cannot be forked; TimeoutError and ConnectionError: the zygote is of no more use.
        """
        ours, its = socket.socketpair()
        stderr, errors = StderrReader.pipe()
        try:
            pid = zygote.fork(its.fileno(), slot.descriptor, errors)
        except BaseException:
            ours.close()
            stderr.close()
            raise
        finally:
            its.close()
            os.close(errors)
        return cls(pid, zygote, Channel(ours), slot, stderr)

    def wait_until_ready(self, deadline: float) -> dict[str, str]:
        """Wait until it is ready; returns its defences.

        Raises:
            TimeoutError, ConnectionError: it does not become ready.
        """
        return defences_in(self.receive(deadline))

    def well(self) -> bool:
        """Whether it is alive and not stopped, as far as that is known."""
        return self.zygote.look(self.pid)

    def cpu_seconds(self) -> float:
        """CPU seconds that its threads have used; 0 where that is not known."""
        with suppress(OSError):
            return time.clock_gettime(self._clock) if self._clock is not None else 0.0
        return 0.0

    def memory_bytes(self) -> int:
        """Bytes of its resident memory; 0 where that is not known."""
        with suppress(OSError, ValueError, IndexError):
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * resource.getpagesize()
        return 0

    def step_back(self) -> None:
        """Let it run only when no other process wants the processor, for the rest of its life.

        A lower priority would not be enough: a model's threads wait for each other all the time, and each of
        them would wait for the end of a slow child's turn on its core.
        """
        self.stepped_back = True
        # Linux schedules each thread on its own.
        with suppress(OSError):
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))

    def kill(self) -> None:
        """Kill it, also where it is stopped."""
        # A child ends with its zygote, and then another process may get its id.
        if self._status is None and not self.zygote.reaped():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def how_it_ended(self) -> int | None:
        """Its exit status, negative for a signal. None: it is still alive, and is killed now."""
        # The socket closes a moment before the process ends.
        deadline = time.monotonic() + _ENDING_SECONDS
        while not self.ended() and time.monotonic() < deadline and self.zygote.well():
            time.sleep(0.005)
        if self._status is None:
            self.kill()
        return self._status

    def ended(self) -> bool:
        """Whether it has ended and its status is known."""
        if self._status is None:
            self._status = self.zygote.reap(self.pid)
        return self._status is not None

    def hang_up(self) -> None:
        """Close the socket and its standard error, but not its slot."""
        self._channel.close()
        self.stderr.close()
