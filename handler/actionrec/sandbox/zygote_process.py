"""The zygote as the worker sees it: a process that forks children when it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..limits import Limits
from .stderr import StderrReader
from .wire import BrokenPeerError

ZYGOTE_MODULE = "actionrec.sandbox.zygote"

_CONTROL_SECONDS = 10.0
"""Seconds within which the zygote must answer; on an idle machine it takes milliseconds."""
_LOOK_SECONDS = 0.2
"""The same, for answers that are not worth more time."""


class Zygote:
    """A started zygote. Thread-safe.

    The kernel ends it, and so its children, with the *thread* that started it.

    Args:
        module: the module that it runs.
        window_bytes: size of the shared memory of each child.
        limits: what a child may use.

    Raises:
        OSError: the machine is out of processes, memory or descriptors.
    """

    def __init__(self, module: str, window_bytes: int, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._asked = 0
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stderr, errors = StderrReader.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    # -P, -S: import neither from the current directory nor from site-packages; PYTHONPATH has
                    # all.
                    *(sys.executable, "-P", "-S", "-m", module),
                    *("--socket", str(its.fileno())),
                    *("--memory-bytes", str(window_bytes)),
                    *("--parent", str(os.getpid())),
                    *("--address-space", str(limits.memory_bytes)),
                    # For two threads during one request, after those that the child was kept for. The limits by
                    # the clock end it earlier.
                    *("--cpu-seconds", str(int(2 * limits.request_seconds) + 60)),
                ],
                env=_environment(),
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # A process group of its own, so that no signal of a terminal reaches it. A session would get as
                # large a share of the processor as the worker, whatever its priority (sched_autogroup).
                process_group=0,
            )
        except BaseException:
            self._control.close()
            self.stderr.close()
            raise
        finally:
            its.close()
            os.close(errors)
        self.pid = self._process.pid

    def wait_until_ready(self, deadline: float) -> dict[str, str]:
        """Wait until it is ready; returns its defences.

        Raises:
            TimeoutError, ConnectionError: it does not become ready.
        """
        return defences_in(self._receive(deadline))

    def fork(self, channel: int, frames: int, errors: int) -> int:
        """Fork a child, which is not ready yet; returns its process id.

        Args:
            channel: descriptor of the child's end of its socket.
            frames: descriptor of the memory for its frames.
            errors: descriptor of its standard error.

        Raises:
            OSError: it cannot be forked; TimeoutError and ConnectionError: the zygote is of no more use.
        """
        pid = self._ask("fork", 0, _CONTROL_SECONDS, [channel, frames, errors])
        if not isinstance(pid, int):
            raise OSError(f"no process could be forked: {pid}")
        return pid

    def reap(self, pid: int) -> int | None:
        """The exit status of a child, negative for a signal; None: it has not ended, or that is not known.

        Until this has returned a status, no other process gets the child's id.
        """
        with suppress(OSError):
            status = self._ask("reap", pid, _CONTROL_SECONDS)
            return status if isinstance(status, int) else None
        return None

    def look(self, pid: int) -> bool:
        """Whether a child is alive and not stopped; also true where the zygote does not answer soon."""
        with suppress(OSError):
            return bool(self._ask("look", pid, _LOOK_SECONDS))
        return True

    def well(self) -> bool:
        """Whether it is alive and not stopped."""
        flags = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is None
        except ChildProcessError:
            return False

    def how_it_ended(self) -> str:
        """Its end in words, as `ending` gives them; kills it where it is still alive."""
        with suppress(subprocess.TimeoutExpired):
            return ending(self._process.wait(1))
        self.kill()
        return "broke off"

    def kill(self) -> None:
        """Kill it, also where it is stopped. Its children end with it."""
        self._process.kill()

    def reaped(self) -> bool:
        """Whether it has ended and was reaped."""
        return self._process.poll() is not None

    def close(self) -> None:
        """Kill it and hang up, without waiting for its end."""
        self.kill()
        self._control.close()
        self.stderr.close()

    def _ask(self, what: str, pid: int, seconds: float, descriptors: Sequence[int] = ()) -> object:
        """Send the zygote an order and return its answer.

        Raises:
            OSError: it does not answer in time, or is gone (TimeoutError, ConnectionError).
        """
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise TimeoutError("the zygote is busy")
        try:
            self._asked += 1
            order = {"id": self._asked, "what": what, "pid": pid}
            self._control.settimeout(seconds)
            socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
            while True:
                answer = self._receive(deadline)
                # The answer to an earlier order may come late.
                if answer.get("id") == self._asked:
                    return answer["answer"]
        finally:
            self._lock.release()

    def _receive(self, deadline: float) -> dict[str, Any]:
        self._control.settimeout(max(deadline - time.monotonic(), 0.001))
        data = self._control.recv(4096)
        if not data:
            raise BrokenPeerError("closed")
        answer: dict[str, Any] = json.loads(data)
        return answer


def ending(status: int) -> str:
    """The end of a process in words: ``was ended by SIGSEGV`` and the like.

    Args:
        status: exit status, negative for a signal.
    """
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def defences_in(message: dict[str, Any]) -> dict[str, str]:
    """The defences that a process names when it is ready.

    Raises:
        BrokenPeerError: it says something else.
    """
    found = message.get("ready")
    if not isinstance(found, dict):
        raise BrokenPeerError("not ready")
    return {str(name): str(value) for name, value in found.items()}


def _environment() -> dict[str, str]:
    """The environment of the zygote: the places of all modules, and no secrets."""
    package = Path(__file__).resolve().parents[2]
    places = [str(package), *(str(Path(place).resolve()) for place in sys.path if place)]
    kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT") if k in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(places),
        # Each child decodes its own video, and a library's threads would start before the confinement.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # A memory arena for the second thread would take 64 MB of the address space that a child may have.
        "MALLOC_ARENA_MAX": "1",
    }
