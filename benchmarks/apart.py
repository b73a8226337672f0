"""A separate process for each candidate, with the settings that it has in use.

So what one candidate does to the allocator, a library's threads or compiler settings affects no other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parent.parent
_LENGTH_BYTES = 8
_READY = "ready"


class Apart:
    """The parent's end of the connection."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, data: bytes = b"") -> str:
        """Send `data` and return the child's answer. Raises RuntimeError where the child has ended."""
        self.send(data)
        return self.receive()

    def send(self, data: bytes = b"") -> None:
        """Send `data`; the first half of `ask`."""
        assert self._process.stdin
        self._process.stdin.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        self._process.stdin.flush()

    def receive(self) -> str:
        """Return the child's answer; the second half of `ask`."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended")  # type: ignore[arg-type]
        return line.decode().rstrip("\n")


@contextmanager
def apart(module: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Apart]:
    """Run ``python -m module arguments``, which must call `answer`. It is ready in the context, and killed
    after it.

    Args:
        module: a module of this package.
        arguments: its command line.
        variables: environment variables beside ours.

    Raises:
        RuntimeError: it ended before it was ready; its own error is on the terminal.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    environment = {**os.environ, **(variables or {})}
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        child = Apart(process)
        while not child.receive().endswith(_READY):
            pass  # libraries may print, too, while it gets ready
        yield child
    finally:
        process.kill()
        process.communicate()


def answer(handle: Callable[[bytes], object]) -> None:
    """The child's end: answers each message with one line, until there are no more."""
    # Output of libraries must not get between the answers.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    out.write(f"{_READY}\n".encode())
    while head := sys.stdin.buffer.read(_LENGTH_BYTES):
        out.write(f"{handle(sys.stdin.buffer.read(int.from_bytes(head, 'big')))}\n".encode())
