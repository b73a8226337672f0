"""What one request may ask for and cost: all limits, in one place.

An archive is built with the defaults. They travel in its ``model-config.yaml`` beside the ClipSpec, where an
operator may change them; a limit that is missing there has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .problems import problem


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may bring, ask for, or cost.

    Raises:
        ValueError: a limit is not a number above 0.
    """

    body_bytes: int = 104_857_600
    """Bytes of the video file. TorchServe refuses larger bodies before (``max_request_size``)."""
    pixels: int = 8_294_400
    """Pixels of a frame, width x height as coded: 3840x2160."""
    aspect: int = 20
    """Longer side of a frame over its shorter one: the shorter one is resized to a fixed length, the longer
    grows."""
    frames: int = 100_000
    """Frames read for one request, counted by packets: almost an hour at 30 a second."""
    streams: int = 64
    """Streams in the file, of any kind."""
    seconds: float = 86_400.0
    """The largest time that an option may name, in seconds; one beyond a day is a mistake."""
    top_k: int = 1_000
    """Labels in a reply, where the model has so many."""
    windows: int = 64
    """Views of one request: windows x crops."""
    stride_seconds: float = 0.1
    """The smallest stride of a timeline, in seconds. The smaller it is, the more frames are kept for later
    windows."""
    open_seconds: float = 1.5
    """Seconds for opening a file and reading its first packet; an honest one takes milliseconds. This limit and
    the two that follow are seconds of a quiet machine (`sandbox.patience`). They hold in the sandbox only: a
    decoder can be stopped only by ending its process."""
    decode_seconds: float = 10.0
    """Seconds for decoding one window."""
    request_seconds: float = 30.0
    """Seconds for opening a file and decoding all windows of a request."""
    memory_bytes: int = 1_610_612_736
    """Bytes of address space that a decoding child may add to those it starts with. Holds in the sandbox
    only."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            kinds = (int,) if limit.type == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
                kind = "whole number" if limit.type == "int" else "number"
                raise ValueError(f"Limits.{limit.name} must be a {kind} above 0, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain numbers, for YAML and JSON."""
        return asdict(self)

    def check_size(self, width: int, height: int) -> None:
        """Refuse a frame that is too large, or of a shape that no camera has.

        Args:
            width, height: in pixels, of a header or a decoded frame.

        Raises:
            ClipError: 413 or 422.
        """
        if width * height > self.pixels:
            raise problem("too_many_pixels", width=width, height=height, most=self.pixels)
        if max(width, height) > self.aspect * min(width, height):
            raise problem("unusual_shape", width=width, height=height, most=self.aspect)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """The inverse of `to_dict`; missing limits have their defaults.

        Raises:
            ValueError: a limit is unknown, or not a number above 0.
        """
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(names)):
            raise ValueError(
                f"There is no limit {', '.join(map(str, unknown))}; the limits are: {', '.join(names)}"
            )
        return cls(**values)


DEFAULT_LIMITS = Limits()
