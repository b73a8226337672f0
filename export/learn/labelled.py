"""What a user's list of labelled videos has in each line, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled part of a video."""

    path: Path
    label: str
    start_seconds: float = 0.0
    """Seconds from the video's first frame."""
    end_seconds: float | None = None
    """The same; None: the video's end."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A video that cannot be learned from."""

    path: Path
    reason: str
    """One line."""
