"""What decodes instead of the CPU, as `decode.windows` knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from av.codec.hwaccel import HWAccel

from ..spec import ClipSpec
from .container import Source
from .conversion import Converter

Hardware = Callable[[], HWAccel | None]
"""Gives what PyAV opens a file with. It is asked in the thread that opens the file, each time that one does."""


class NotTakenError(Exception):
    """A video is one for the CPU; the message says why."""


class Acceleration(Protocol):
    """A decoder beside the CPU."""

    @property
    def hardware(self) -> Hardware:
        """What files are opened with."""

    def converter(self, source: Source, spec: ClipSpec, crops: int) -> Converter:
        """What converts the frames of an open file.

        Raises:
            NotTakenError: from here, or from the converter.
        """
