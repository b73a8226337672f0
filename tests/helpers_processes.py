"""What a process was started as, asked while it may end."""

from __future__ import annotations

import psutil


def command(process: psutil.Process) -> list[str]:
    """The words of its command; none when it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
