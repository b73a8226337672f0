"""What a live stream reports. Each kind of line is a dataclass of plain data, for JSON and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Label = Mapping[str, Any]
"""``{"label": ..., "class_index": ..., "score": ...}``, as the server has it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The source was opened, and its first frame came."""

    source: str
    width: int
    """In pixels, as the source has them."""
    height: int
    at: float
    """`time.time` seconds."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        size = {"width": self.width, "height": self.height}
        return {"type": "opened", "at": iso(self.at), "source": self.source, **size}


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one window."""

    start_seconds: float
    """Of the window, in the stream's time: 0 is its first frame."""
    end_seconds: float
    start_at: float
    """When the window's first frame came, `time.time` seconds."""
    end_at: float
    """When the window's last frame came, `time.time` seconds."""
    predictions: Sequence[Label]
    """Best first; smoothed where that was asked for."""
    smoothed: bool
    age_seconds: float
    """From the arrival of the window's newest frame to the answer."""
    lag_seconds: float
    """How late the newest frame came, by its timestamp: 0 for the promptest frame of the connection."""
    source_frames: int
    """Of the stream inside the window."""
    frames_dropped: int
    """Since the start."""
    windows_skipped: int
    """Since the start: windows that the server was still too busy for when the next one was complete."""
    sent_bytes: int
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """``encode`` and ``request`` here; ``decode``, ``transform`` and ``inference`` as the server says."""
    warnings: Sequence[Mapping[str, str]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "type": "result",
            "window": {
                "start_seconds": round(self.start_seconds, 3),
                "end_seconds": round(self.end_seconds, 3),
                "start_at": iso(self.start_at),
                "end_at": iso(self.end_at),
            },
            "predictions": list(self.predictions),
            "smoothed": self.smoothed,
            "age_seconds": round(self.age_seconds, 3),
            "lag_seconds": round(self.lag_seconds, 3),
            "source_frames": self.source_frames,
            "frames_dropped": self.frames_dropped,
            "windows_skipped": self.windows_skipped,
            "sent_bytes": self.sent_bytes,
            "timings_ms": {name: round(value, 1) for name, value in self.timings_ms.items()},
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without frames. No window contains it."""

    reason: str
    start_seconds: float
    """Of the last frame before it, in the stream's time."""
    end_seconds: float
    """Of the first frame after it, in the stream's time."""
    seconds: float
    """From the arrival of the one to that of the other, by the wall clock."""
    at: float
    """When it was over, `time.time` seconds."""
    attempts: int
    """How often the source was connected to again; 0 where the connection stayed."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "type": "gap",
            "at": iso(self.at),
            "start_seconds": round(self.start_seconds, 3),
            "end_seconds": round(self.end_seconds, 3),
            "seconds": round(self.seconds, 3),
            "attempts": self.attempts,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to the source broke off. It is tried again."""

    reason: str
    at: float
    """`time.time` seconds."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        return {"type": "lost", "at": iso(self.at), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Failed:
    """A window that got no answer."""

    start_seconds: float
    end_seconds: float
    code: str
    status: int
    message: str
    hint: str
    at: float
    """`time.time` seconds."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "type": "error",
            "at": iso(self.at),
            "window": {
                "start_seconds": round(self.start_seconds, 3),
                "end_seconds": round(self.end_seconds, 3),
            },
            "error": {
                "code": self.code,
                "status": self.status,
                "message": self.message,
                "hint": self.hint,
            },
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole run in numbers."""

    seconds: float
    """From the start to the end, by the wall clock."""
    results: int
    errors: int
    gaps: int
    frames: int
    """Taken into windows."""
    frames_dropped: int
    windows_skipped: int
    reason: str
    """Why it ended."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "type": "summary",
            "seconds": round(self.seconds, 3),
            "results": self.results,
            "errors": self.errors,
            "gaps": self.gaps,
            "frames": self.frames,
            "frames_dropped": self.frames_dropped,
            "windows_skipped": self.windows_skipped,
            "reason": self.reason,
        }


Event = Opened | Answered | Gap | Lost | Failed | Summary


@dataclass(slots=True)
class Tally:
    """How many events of each kind there were."""

    results: int = 0
    errors: int = 0
    gaps: int = 0

    def add(self, event: Event) -> None:
        """Count one event."""
        self.results += isinstance(event, Answered)
        self.errors += isinstance(event, Failed)
        self.gaps += isinstance(event, Gap)


def iso(seconds: float) -> str:
    """`time.time` seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
