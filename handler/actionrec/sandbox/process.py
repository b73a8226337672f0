"""One decoding child as its worker sees it: the process, the socket, and the memory that both can see."""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..decode import Decoded
from ..errors import ClipError, ClipWarning
from ..limits import Limits
from ..resize import Pixels
from .wire import BrokenPeerError, Channel

CHILD_MODULE = "actionrec.sandbox.child"

# Seals: the memory's size stays what it is, or a child could take it away under the worker's hands.
_F_ADD_SEALS, _SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW = 1033, 1, 2, 4
_REAP_SECONDS = 10.0


class Child:
    """A started child.

    Args:
        module: what it runs.
        window_bytes: of shared memory.
        limits: memory that it may use.
        cpu_seconds: of its whole life.

    Raises:
        OSError: the machine is out of processes, memory or descriptors.
    """

    def __init__(self, module: str, window_bytes: int, limits: Limits, cpu_seconds: float) -> None:
        self.busy_seconds = 0.0
        """That were waited for it so far."""
        descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        ours, its = socket.socketpair()
        try:
            os.ftruncate(descriptor, window_bytes)
            _seal(descriptor)
            self._memory = mmap.mmap(descriptor, window_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            self._channel = Channel(ours)
            self._process = subprocess.Popen(
                [
                    # -P: no current directory among the places for modules. -S: they are all given.
                    *(sys.executable, "-P", "-S", "-m", module),
                    *("--socket", str(its.fileno())),
                    *("--memory", str(descriptor)),
                    *("--memory-bytes", str(window_bytes)),
                    *("--parent", str(os.getpid())),
                    *("--address-space", str(limits.memory_bytes)),
                    *("--cpu-seconds", str(int(cpu_seconds))),
                ],
                env=_environment(),
                pass_fds=(its.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
            os.close(descriptor)
        self.pid = self._process.pid

    def wait_until_ready(self, deadline: float) -> dict[str, str]:
        """Wait for its first words: which defences hold.

        Raises:
            TimeoutError, ConnectionError: it does not say them.
        """
        found = self._channel.receive(deadline).get("ready")
        if not isinstance(found, dict):
            raise BrokenPeerError("not ready")
        return {str(name): str(value) for name, value in found.items()}

    def well(self) -> bool:
        """Whether it is alive and not stopped."""
        flags = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is None
        except ChildProcessError:
            return False

    def send(self, message: dict[str, Any], payload: bytes = b"", *, deadline: float) -> None:
        """See `Channel.send`."""
        self._channel.send(message, payload, deadline=deadline)

    def receive(self, deadline: float) -> dict[str, Any]:
        """See `Channel.receive`."""
        started = time.monotonic()
        try:
            return self._channel.receive(deadline)
        finally:
            self.busy_seconds += time.monotonic() - started

    def frames(self, shape: tuple[int, ...]) -> Pixels:
        """A copy of the window in the shared memory.

        Args:
            shape: that it must have, [T, H, W, 3].
        """
        count = int(np.prod(shape))
        return np.frombuffer(self._memory, dtype=np.int16, count=count).reshape(shape).copy()

    def kill(self) -> None:
        """End it at once; also where it is stopped."""
        self._process.kill()

    def how_it_ended(self) -> str:
        """``killed by SIGSEGV`` and the like; kills it where it is still alive."""
        # A closed socket is seen before the end of the process is.
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            self.kill()
            return "broke off"
        if code == -signal.SIGXCPU:
            return "used up its CPU time"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Kill it, wait for its end, and free what it had."""
        self.kill()
        try:
            self._process.wait(_REAP_SECONDS)
        finally:
            self._channel.close()
            self._memory.close()


def _seal(descriptor: int) -> None:
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL)


def _environment() -> dict[str, str]:
    """Where modules are, whatever this process did to find them, and none of its secrets."""
    package = Path(__file__).resolve().parents[2]
    places = [str(package), *(str(Path(place).resolve()) for place in sys.path if place)]
    kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT") if k in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(places),
        # Each child has its own clip, and threads of a library would be there before the confinement.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # An arena of its own for the second thread would take 64 MB of the address space that a child may have.
        "MALLOC_ARENA_MAX": "1",
    }


_KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
# Name -> kind of each plain value of a window; a field of another kind fails here, when this is imported.
_VALUES = {f.name: _KINDS[str(f.type)] for f in fields(Decoded) if f.name not in ("frames", "warnings", "cuts")}


def decoded_from(
    values: object, frames: Callable[[tuple[int, ...]], Pixels], shape: tuple[int, ...]
) -> Decoded:
    """A window from what a child says of it, every value of the kind that it must be.

    Args:
        values: what it says.
        frames: takes a shape and copies so many pixels out of the shared memory.
        shape: of a window's frames, [T, H, W, 3]; one that is missing has none.

    Raises:
        BrokenPeerError: no honest child says that.
    """
    if not isinstance(values, Mapping):
        raise BrokenPeerError("a window that is none")
    try:
        found: dict[str, Any] = {name: kind(values[name]) for name, kind in _VALUES.items()}
        warnings = tuple(ClipWarning(str(w["code"]), str(w["message"])) for w in values["warnings"])
        cuts = tuple(float(seconds) for seconds in values["cuts"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BrokenPeerError(f"a window that is none: {error!r}") from error
    if found["missing"]:
        shape = (0, *shape[1:])
    return Decoded(frames=frames(shape), warnings=warnings, cuts=cuts, **found)


def error_from(values: object) -> ClipError:
    """A ClipError from what a child says of it.

    Raises:
        BrokenPeerError: no honest child says that.
    """
    try:
        code, status, message, hint = (values[k] for k in ("code", "status", "message", "hint"))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise BrokenPeerError(f"an error that is none: {error!r}") from error
    if not (isinstance(code, str) and re.fullmatch("[A-Z_0-9]{1,40}", code) and status in range(400, 500)):
        raise BrokenPeerError("an error that is none")
    return ClipError(code, int(status), str(message), str(hint))
