"""Shared memory for the frames of one window."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable

import numpy as np

from ..video.resize import Pixels

# Seals: nobody can change the memory's size, or a child could take it away while the worker reads it.
_F_ADD_SEALS, _SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW = 1033, 1, 2, 4

Memory = Callable[[tuple[int, ...]], Pixels]
"""Shape -> an int16 array that is not set."""


class Slot:
    """Memory for the frames of one window, shared by the worker and one child; used by one child after the
    other.
    """

    def __init__(self, size: int) -> None:
        self.descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, size)
        fcntl.fcntl(self.descriptor, _F_ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL)
        self._memory = mmap.mmap(self.descriptor, size)

    def frames(self, shape: tuple[int, ...], memory: Memory) -> Pixels:
        """A copy of the frames in it.

        Args:
            shape: [T, H, W, 3]
            memory: gives the array for the copy.
        """
        count = int(np.prod(shape))
        copy = memory(shape)
        np.copyto(copy, np.frombuffer(self._memory, dtype=np.int16, count=count).reshape(shape))
        return copy

    def clear(self) -> None:
        """Set it to zero: the next child decodes for somebody else."""
        np.frombuffer(self._memory, dtype=np.uint8)[:] = 0

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()
        os.close(self.descriptor)
