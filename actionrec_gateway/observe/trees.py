"""What processes of this host use, each with those that it has started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Tree:
    """A process and its children."""

    resident_bytes: int
    """Memory of all of them. Pages that they share count for each, so it is no less than what is in use."""
    children: int


def trees(pids: Iterable[int]) -> dict[int, Tree]:
    """Look at processes. Those that are gone, or belong to somebody else, are left out.

    Args:
        pids: process ids.
    """
    found = {}
    for pid in pids:
        try:
            root = psutil.Process(pid)
            below = root.children(recursive=True)
            resident = root.memory_info().rss
        except psutil.Error:
            continue
        living = [rss for child in below if (rss := _resident(child)) is not None]
        found[pid] = Tree(resident + sum(living), len(living))
    return found


def _resident(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss) or None  # a zombie has none
    except psutil.Error:
        return None
