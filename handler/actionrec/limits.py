"""What one request may ask for and cost: every limit, in one place.

The defaults are what an archive is built with. They travel in its ``model-config.yaml`` beside the ClipSpec,
where whoever runs it may change them; what is missing there has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import ClipError


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may bring, ask for, or cost.

    Raises:
        ValueError: a limit is no number above 0.
    """

    body_bytes: int = 104_857_600
    """Of the video file. TorchServe refuses larger bodies before (``max_request_size``)."""
    pixels: int = 8_294_400
    """Of a frame, width x height as coded: 3840x2160."""
    aspect: int = 20
    """Longer side of a frame over its shorter one: scaling by the shorter side makes the longer one grow."""
    frames: int = 100_000
    """Looked at for one request, by their packets: almost an hour at 30 a second."""
    streams: int = 64
    """In the file, of any kind."""
    seconds: float = 86_400.0
    """The largest time that an option may name; beyond a day a number is a mistake."""
    top_k: int = 1_000
    """Labels in a reply, where the model has so many."""
    windows: int = 64
    """Views of one request: windows x crops."""
    stride_seconds: float = 0.1
    """The smallest stride of a timeline. The less it is, the more frames are kept for windows to come."""
    decode_seconds: float = 10.0
    """Wall clock of decoding one window. Enforced in the sandbox only: nothing but its end stops a decoder."""
    request_seconds: float = 30.0
    """Wall clock of decoding all windows of a request; with a batch of them far below TorchServe's
    ``responseTimeout``, past which it kills the worker. Enforced in the sandbox only."""
    memory_bytes: int = 1_610_612_736
    """What a decoding child may use beyond its start. Enforced in the sandbox only."""

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
        """Refuse frames that are too large, or of a shape that no camera has.

        Args:
            width, height: in pixels, from a header or of a decoded frame.

        Raises:
            ClipError: 413 or 422.
        """
        if width * height > self.pixels:
            raise self.too_large(f"Its frames are {width:,} x {height:,}:")
        if max(width, height) > self.aspect * min(width, height):
            raise ClipError(
                "UNUSUAL_SHAPE",
                422,
                f"A frame of {width:,} x {height:,} is more than {self.aspect} times as long in one direction.",
                "Crop it to what is to be classified: ffmpeg -i input -vf crop=640:480 output.mp4",
            )

    def too_large(self, what: str) -> ClipError:
        """The error for frames with too many pixels.

        Args:
            what: the message's beginning.
        """
        return ClipError(
            "TOO_MANY_PIXELS",
            413,
            f"{what} more than {self.pixels:,} pixels.",
            "Send a smaller one, the model sees it small anyway: ffmpeg -i input -vf scale=-2:480 output.mp4",
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """The inverse of `to_dict`; what is missing has its default.

        Raises:
            ValueError: a limit is unknown, or no number above 0.
        """
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(names)):
            raise ValueError(
                f"There is no limit {', '.join(map(str, unknown))}; the limits are: {', '.join(names)}"
            )
        return cls(**values)


DEFAULT_LIMITS = Limits()
