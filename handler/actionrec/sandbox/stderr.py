"""The standard error of a decoding process: a pipe that is read without trust.

The worker's own standard error belongs to TorchServe, which takes some lines for metrics and process ids. So a
child's text never gets there unchanged: a bounded part of it is logged, each line with a prefix.
"""

from __future__ import annotations

import os

_MOST_BYTES = 16_384
_LINES = 20
_LINE_CHARACTERS = 200


def safe_lines(text: str) -> list[str]:
    """The last lines of an untrusted text, in printable ASCII, bounded in number and length."""
    lines = text.splitlines()[-_LINES:]
    return [
        line.encode("ascii", "backslashreplace").decode()[:_LINE_CHARACTERS].translate(_CONTROLS)
        for line in lines
    ]


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


class StderrReader:
    """The reading end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def pipe(cls) -> tuple[StderrReader, int]:
        """A pipe: the reading end, and the descriptor of the writing end.

        Neither end ever waits: a full pipe loses what is written into it.
        """
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return cls(read), write

    def lines(self) -> list[str]:
        """The lines that were written since the last call, as `safe_lines` gives them."""
        try:
            data = os.read(self._descriptor, _MOST_BYTES)
        except OSError:
            return []
        return safe_lines(data.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the reading end."""
        os.close(self._descriptor)
